"""The position and pose of every object in every frame: wandering paths and gaits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ookd.worlds.events import add_events
from ookd.worlds.layout import Array, SceneLayout

Gait = Literal[
    "swim",
    "walk",
    "fly",
    "crawl",
    "drive",
    "pulse",
    "paddle",
    "slither",
    "flutter",
    "float",
    "scuttle",
    "spin",
]
_PACE = 6  # frames between waypoints


@dataclass(frozen=True)
class GaitStyle:
    """How objects of a gait move."""

    speed: float  # frame heights per frame
    turn: float  # radians per waypoint
    rise: float  # vertical share of the speed
    beat: float = 0.0  # body cycles per frame
    stride: float = 0.0  # body cycles per body length
    view: Literal["side", "above", "upright"] = "side"
    ground: bool = False  # stands on the ground, and looks larger the nearer it is
    bob: float = 0.0  # body lengths up and down


GAITS: dict[Gait, GaitStyle] = {
    "swim": GaitStyle(0.016, 0.5, 0.5, beat=0.05, stride=0.35),
    "walk": GaitStyle(0.013, 0.25, 0.2, stride=1.0, ground=True, bob=0.03),
    "fly": GaitStyle(0.028, 0.5, 0.6, beat=0.13, bob=0.12),
    "crawl": GaitStyle(0.011, 0.7, 1.0, stride=1.4, view="above"),
    "drive": GaitStyle(0.032, 0.1, 0.1, stride=0.8, ground=True),
    "pulse": GaitStyle(0.008, 0.5, 1.0, beat=0.07, view="above", bob=0.06),
    "paddle": GaitStyle(0.009, 0.5, 1.0, beat=0.03, stride=0.8, view="above"),
    "slither": GaitStyle(0.016, 0.6, 0.9, beat=0.02, stride=1.0, view="above"),
    "flutter": GaitStyle(0.020, 1.3, 0.9, beat=0.17, view="above", bob=0.15),
    "float": GaitStyle(0.007, 0.4, 0.8, beat=0.04, view="upright"),
    "scuttle": GaitStyle(0.014, 0.9, 0.8, stride=1.6, view="above"),
    "spin": GaitStyle(0.007, 0.8, 0.9, beat=0.04, view="upright"),
}


@dataclass(frozen=True)
class Poses:
    """Positions and poses of all objects over time, [N, L] unless stated otherwise."""

    x: Array
    y: Array
    length: Array  # of the body, in heights
    angle: Array
    flip: Array  # -1..1: faces left .. right, narrow while turning
    phase: Array
    depth: Array  # larger is nearer
    velocity: Array  # [N, L, 2] frame heights per frame


def plan(
    rng: np.random.Generator,
    gaits: Sequence[Gait],
    sizes: Array,  # [N] body lengths in heights
    twins: Sequence[int],  # [N] the object that each one looks like; its own index if none
    layout: SceneLayout,
) -> Poses:
    """All motion of one video. Paths extend one frame beyond both ends, for the velocity there."""
    ways, n = [GAITS[gait] for gait in gaits], len(gaits)
    ground = np.array([way.ground for way in ways])
    path = _wander(rng, ways, ground, layout)
    add_events(rng, path, sizes, twins, ground, layout)

    time = np.arange(-1, layout.frames + 1)
    starts = rng.uniform(0, 2 * np.pi, (4, n, 1))
    sway = np.exp(0.25 * np.sin(2 * np.pi * time / rng.uniform(24, 60, (n, 1)) + starts[0]))
    near = np.clip((path[..., 1] - layout.horizon) / max(1 - layout.horizon, 0.1), 0, 1.2)
    length = sizes[:, None] * np.where(ground[:, None], 0.6 + 0.6 * near, sway)
    depth = np.where(ground[:, None], path[..., 1], rng.uniform(0.3, 1.0, (n, 1)) * sway)

    step = np.gradient(path, axis=1)
    pace = np.hypot(step[..., 0], step[..., 1])
    beat, stride, bob = (np.array([[getattr(way, key)] for way in ways]) for key in ("beat", "stride", "bob"))
    phase = starts[1] + 2 * np.pi * np.cumsum(np.clip(beat + stride * pace / length, 0.015, 0.2), 1)

    facing = np.tanh(_soften(step[..., 0]) / 0.0025)
    facing = np.where(facing < 0, -1, 1) * np.maximum(np.abs(facing), 0.3)
    tilt = np.arctan2(step[..., 1], np.abs(step[..., 0]) + 0.004) * np.where(ground, 0.25, 0.5)[:, None]
    heading = _soften(np.unwrap(np.arctan2(step[..., 1], step[..., 0]), axis=1))
    turning = starts[2] + 0.09 * time * rng.choice([-1, 1], (n, 1))

    gait, view = np.array(gaits)[:, None], np.array([[way.view] for way in ways])
    angle = np.select(
        [gait == "scuttle", gait == "spin", gait == "float", view == "above"],
        [heading + np.pi / 2, turning, 0.12 * np.sin(phase), heading],
        tilt * facing,
    )
    flip = np.where(view == "side", facing, 1.0)
    bounce = np.where(ground[:, None], -np.abs(np.sin(phase)), np.cos(phase * 0.9 + starts[3]))
    within = slice(1, -1)
    return Poses(
        path[:, within, 0],
        (path[..., 1] + bob * length * bounce)[:, within],
        length[:, within],
        angle[:, within],
        flip[:, within],
        phase[:, within],
        depth[:, within],
        step[:, within],
    )


def _soften(values: Array) -> Array:
    """Mean over five frames, [N, T]."""
    padded = np.pad(values, ((0, 0), (2, 2)), "edge")
    return np.asarray(sum(padded[:, k : k + values.shape[1]] for k in range(5)) / 5)


def _wander(
    rng: np.random.Generator, ways: Sequence[GaitStyle], ground: NDArray[np.bool_], layout: SceneLayout
) -> Array:
    """Smooth paths through random waypoints that turn back at the edges, [N, T = frames + 2, 2]."""
    n, count = len(ways), (layout.frames + 1) // _PACE + 4
    speed, turn, rise = (np.array([getattr(way, key) for way in ways]) for key in ("speed", "turn", "rise"))
    speed = speed * rng.uniform(0.6, 1.4, n) * (1 + 0.5 * layout.association)
    low = np.stack([np.where(ground, 0.0, 0.1), np.where(ground, layout.horizon + 0.08, 0.1)], -1)
    high = np.stack([layout.aspect - low[:, 0], np.full(n, 0.9)], -1)
    here = rng.uniform(low, high)
    heading = rng.choice([0.0, np.pi], n) + rng.uniform(-1, 1, n) * np.where(ground, 0.3, 1.5)
    points = np.empty((n, count, 2))
    for j in range(count):
        points[:, j] = here
        step = _PACE * speed[:, None] * np.stack([np.cos(heading), np.sin(heading) * rise], -1)
        outwards = ((here < low) & (step < 0)) | ((here > high) & (step > 0))
        step = np.where(outwards, -step, step)
        heading = np.arctan2(step[:, 1] / rise, step[:, 0]) + turn * rng.standard_normal(n)
        here = here + step
    u = np.arange(layout.frames + 2) / _PACE + 1
    i, f = u.astype(int), (u % 1)[:, None]
    a, b, c, d = (points[:, i + k] for k in (-1, 0, 1, 2))  # Catmull-Rom
    return np.asarray(b + f / 2 * (c - a + f * (2 * a - 5 * b + 4 * c - d + f * (3 * (b - c) + d - a))))
