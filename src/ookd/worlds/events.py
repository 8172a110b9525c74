"""Events that make identity hard: look-alikes that cross, objects that hide for long, or leave and return.

An event *pulls* a path to a place for a while: to another path to cross it, to an obstacle to hide behind it,
or out of the frame. So paths stay smooth functions of time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ookd.worlds.layout import Array, SceneLayout

_FASTEST = 0.06  # frame heights per frame, the fastest that a pull moves an object


def pull(path: Array, target: Array, centre: float, half: float) -> None:
    """Bring `path` [T, 2], which starts at frame -1, to `target` [T, 2] or [2] for `half` frames each way."""
    time = np.arange(len(path)) - 1
    gap = target - path
    distance = float(np.hypot(*gap[int(np.clip(centre + 1, 0, len(path) - 1))]))
    ramp = max(5.0, 1.5 * distance / _FASTEST)
    far = np.clip((np.abs(time - centre) - half) / ramp, 0, 1)
    path += gap * (0.5 + 0.5 * np.cos(np.pi * far))[:, None]


def add_events(
    rng: np.random.Generator,
    paths: Array,  # [N, T, 2], changed in place
    sizes: Array,  # [N]
    twins: Sequence[int],
    ground: NDArray[np.bool_],  # [N] walks or drives
    layout: SceneLayout,
) -> None:
    """Add all events of a video; their number grows with its length, its crowd and `association`."""
    rounds = len(paths) * layout.frames / 16
    hard = layout.association
    for _ in range(rng.poisson(rounds * (0.05 + 0.5 * hard))):
        _cross(rng, paths, twins, layout)
    if layout.occluders:
        for _ in range(rng.poisson(rounds * 0.35 * hard)):
            _hide(rng, paths, ground, layout)
    leaves = 1 - (1 - 0.08 - 0.3 * hard) ** min(layout.frames / 16, 2)
    for i in np.flatnonzero(rng.random(len(paths)) < leaves):
        _leave(rng, paths[i], float(sizes[i]), layout)


def _cross(rng: np.random.Generator, paths: Array, twins: Sequence[int], layout: SceneLayout) -> None:
    """Two objects meet half-way, preferably look-alikes."""
    n = len(paths)
    i, centre = int(rng.integers(n)), float(rng.uniform(0.1, 0.9) * layout.frames)
    others = [j for j in range(n) if j != i]
    alike = [j for j in others if twins[j] == twins[i]]
    if alike and rng.random() < 0.8:
        others = alike
    if others:
        j, now = int(rng.choice(others)), int(centre) + 1
        meeting = (paths[i, now] + paths[j, now]) / 2
        for k in (i, j):
            pull(paths[k], paths[k] + (meeting - paths[k, now]), centre, 1.0)


def _hide(rng: np.random.Generator, paths: Array, ground: NDArray[np.bool_], layout: SceneLayout) -> None:
    """An object goes behind an obstacle and comes out again."""
    i, thing = int(rng.integers(len(paths))), layout.occluders[int(rng.integers(len(layout.occluders)))]
    time = np.clip(np.arange(layout.frames + 2) - 1, 0, layout.frames - 1)
    place = np.array([thing.x, thing.y]) - layout.camera.pan[time]
    if thing.kind == "trunk" or ground[i]:
        place[:, 1] = np.clip(paths[i, :, 1], max(layout.horizon, 0.1) if ground[i] else 0.1, 0.9)
    half = float(rng.uniform(0.5, 1 + 4 * layout.association))
    pull(paths[i], place + rng.uniform(-0.03, 0.03, 2), float(rng.uniform(0.15, 0.85) * layout.frames), half)


def _leave(rng: np.random.Generator, path: Array, size: float, layout: SceneLayout) -> None:
    """An object leaves at the nearer side; near the ends of the video it enters late or exits early."""
    centre = float(rng.uniform(0, layout.frames))
    x, y = path[int(centre) + 1]
    away = 0.6 * size + 0.05
    side = np.array([-away if x < layout.aspect / 2 else layout.aspect + away, y])
    pull(path, side, centre, float(rng.uniform(0, 1 + 3 * layout.association)))
