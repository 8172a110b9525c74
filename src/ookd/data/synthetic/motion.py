"""Where everything is at every frame: wandering paths, ways of moving, and what makes identity hard.

Screen coordinates: the frame is 1 high and `aspect` wide, y down. An event *pulls* an object's path to a
place for a while (another's path to cross, an occluder to hide behind, a place outside to come back from), so
that paths stay smooth functions of time whatever happens on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# speed (heights a frame), turn (radians a waypoint), rise (vertical share of speed), beat (cycles a frame),
# stride (cycles a body length), seen from above
GAITS: dict[str, tuple[float, float, float, float, float, bool]] = {
    "swim": (0.016, 0.5, 0.5, 0.05, 0.35, False),
    "walk": (0.013, 0.25, 0.2, 0.0, 1.0, False),
    "fly": (0.028, 0.5, 0.6, 0.13, 0.0, False),
    "crawl": (0.011, 0.7, 1.0, 0.0, 1.4, True),
    "drive": (0.032, 0.1, 0.1, 0.0, 0.8, False),
    "pulse": (0.008, 0.5, 1.0, 0.07, 0.0, True),
    "paddle": (0.009, 0.5, 1.0, 0.03, 0.8, True),
    "slither": (0.016, 0.6, 0.9, 0.02, 1.0, True),
    "flutter": (0.020, 1.3, 0.9, 0.17, 0.0, True),
    "float": (0.007, 0.4, 0.8, 0.04, 0.0, False),
    "scuttle": (0.014, 0.9, 0.8, 0.0, 1.6, True),
    "spin": (0.007, 0.8, 0.9, 0.04, 0.0, True),
}
GROUND = frozenset({"walk", "drive"})
_PACE = 6  # frames between waypoints
_FASTEST = 0.05  # heights a frame that an event may ask for


@dataclass(frozen=True)
class Poses:
    """Everything that moves, [N, L] unless said otherwise."""

    x: Array
    y: Array
    length: Array  # of the body, in heights
    angle: Array
    flip: Array  # -1..1: faces left .. right, narrow while turning
    phase: Array
    depth: Array  # larger is nearer
    velocity: Array  # [N, L, 2] heights a frame


@dataclass(frozen=True)
class Camera:
    """How the view drifts, [L] each."""

    pan: Array  # [L, 2] heights
    zoom: Array
    roll: Array


@dataclass(frozen=True)
class Occluder:
    """A thing that stands in front. `x, y` is its centre when the camera does not pan."""

    kind: str
    x: float
    y: float
    width: float
    height: float


def camera(rng: np.random.Generator, length: int) -> Camera:
    t = np.arange(length)
    rate, start = rng.uniform(0.06, 0.19, 4), rng.uniform(0, 2 * np.pi, 4)
    waves = np.sin(np.outer(t, rate) + start) - np.sin(start)
    reach = rng.uniform(0, 1, 4) * (0.06, 0.03, 0.03, 0.012)
    return Camera(waves[:, :2] * reach[:2], 1.03 + waves[:, 2] * reach[2], waves[:, 3] * reach[3])


def occluders(rng: np.random.Generator, association: float, aspect: float) -> list[Occluder]:
    """More and broader ones the harder identity is."""
    things = []
    for _ in range(rng.binomial(4, 0.1 + 0.6 * association)):
        x = float(rng.uniform(0.15, aspect - 0.15))
        breadth = float(rng.uniform(0.8, 1.2)) * (0.6 + 0.6 * association)
        match rng.integers(3):
            case 0:
                things.append(Occluder("trunk", x, 0.4, 0.2 * breadth, 1.5))
            case 1:
                things.append(
                    Occluder("bush", x, float(rng.uniform(0.45, 0.85)), 0.5 * breadth, 0.4 * breadth)
                )
            case _:
                things.append(
                    Occluder("rock", x, float(rng.uniform(0.5, 0.9)), 0.42 * breadth, 0.3 * breadth)
                )
    return things


def plan(
    rng: np.random.Generator,
    gaits: Sequence[str],
    sizes: Array,  # [N] body lengths in heights
    twins: Sequence[int],  # [N] whom each one looks like, itself if nobody
    frames: int,
    aspect: float,
    horizon: float,
    association: float,
    things: Sequence[Occluder],
    view: Camera,
) -> Poses:
    """The whole choreography of one video."""
    n = len(gaits)
    speed, turn, rise, beat, stride, above = np.array([GAITS[gait] for gait in gaits]).T
    ground = np.array([gait in GROUND for gait in gaits])
    above = above > 0
    speed = speed * rng.uniform(0.6, 1.4, n) * (1 + 0.5 * association)
    time = np.arange(-1, frames + 1)
    path = _wander(rng, speed, turn, rise, ground, frames, aspect, horizon)
    path = path + _pulls(rng, path, time, twins, ground, aspect, horizon, association, things, view)

    wave = rng.uniform(0, 2 * np.pi, (3, n, 1))
    near = np.clip((path[..., 1] - horizon) / max(1 - horizon, 0.1), 0, 1.2)
    sway = np.exp(0.25 * np.sin(2 * np.pi * time / rng.uniform(24, 60, (n, 1)) + wave[0]))
    length = sizes[:, None] * np.where(ground[:, None], 0.6 + 0.6 * near, sway)
    depth = np.where(ground[:, None], path[..., 1], rng.uniform(0.3, 1.0, (n, 1)) * sway)

    step = np.gradient(path, axis=1)
    pace = np.hypot(*np.moveaxis(step, -1, 0))
    cycle = np.clip(beat[:, None] + stride[:, None] * pace / length, 0.015, 0.2)
    phase = wave[1] + 2 * np.pi * np.cumsum(cycle, 1)
    heading = np.unwrap(np.arctan2(step[..., 1], step[..., 0]), axis=1)
    heading = _soften(heading)
    spin = wave[2] + 0.09 * time * rng.choice([-1, 1], (n, 1))
    tilt = np.arctan2(step[..., 1], np.abs(step[..., 0]) + 0.004) * np.where(ground, 0.25, 0.5)[:, None]
    facing = np.tanh(_soften(step[..., 0]) / 0.0025)
    facing = np.where(facing < 0, -1, 1) * np.maximum(np.abs(facing), 0.3)

    name = np.array(gaits)[:, None]
    angle = np.where(above[:, None], heading, tilt * facing)
    angle = np.where(name == "scuttle", heading + np.pi / 2, angle)
    angle = np.where(name == "spin", spin, angle)
    angle = np.where(name == "float", 0.12 * np.sin(phase), angle)
    flip = np.where(above[:, None] | (name == "float"), 1.0, facing)
    bob = length * np.select(
        [name == "walk", name == "fly", name == "flutter", name == "pulse"],
        [
            -0.05 * np.abs(np.sin(phase)),
            0.12 * np.cos(phase),
            0.15 * np.sin(phase * 0.7),
            0.06 * np.sin(phase),
        ],
        0.0,
    )
    within = slice(1, -1)
    return Poses(
        path[:, within, 0],
        (path[..., 1] + bob)[:, within],
        length[:, within],
        angle[:, within],
        flip[:, within],
        phase[:, within],
        depth[:, within],
        step[:, within],
    )


def _soften(values: Array) -> Array:
    padded = np.pad(values, ((0, 0), (2, 2)), "edge")
    return np.asarray(
        (padded[:, :-4] + padded[:, 1:-3] + padded[:, 2:-2] + padded[:, 3:-1] + padded[:, 4:]) / 5
    )


def _wander(
    rng: np.random.Generator,
    speed: Array,
    turn: Array,
    rise: Array,
    ground: NDArray[np.bool_],
    frames: int,
    aspect: float,
    horizon: float,
) -> Array:
    """Smooth paths through random waypoints, [N, frames + 2, 2], from one frame before to one after."""
    n, count = len(speed), (frames + 1) // _PACE + 4
    top = np.where(ground, horizon + 0.08, 0.1)
    edge = np.where(ground, 0.0, 0.1)
    here = np.stack([rng.uniform(edge, aspect - edge), rng.uniform(top, 0.88)], -1)
    heading = rng.choice([0.0, np.pi], n) + rng.uniform(-1, 1, n) * np.where(ground, 0.3, 1.5)
    points = np.empty((n, count, 2))
    for j in range(count):
        points[:, j] = here
        step = _PACE * speed[:, None] * np.stack([np.cos(heading), np.sin(heading) * rise], -1)
        out_x = ((here[:, 0] < edge) & (step[:, 0] < 0)) | ((here[:, 0] > aspect - edge) & (step[:, 0] > 0))
        out_y = ((here[:, 1] < top) & (step[:, 1] < 0)) | ((here[:, 1] > 0.9) & (step[:, 1] > 0))
        step *= np.where(np.stack([out_x, out_y], -1), -1, 1)
        heading = np.arctan2(step[:, 1] / rise, step[:, 0]) + turn * rng.standard_normal(n)
        here = here + step
    u = (np.arange(frames + 2)) / _PACE + 1
    i, f = u.astype(int), (u % 1)[:, None]
    a, b, c, d = (points[:, i + k] for k in (-1, 0, 1, 2))
    return np.asarray(b + f / 2 * (c - a + f * (2 * a - 5 * b + 4 * c - d + f * (3 * (b - c) + d - a))))


def _pulls(
    rng: np.random.Generator,
    path: Array,
    time: NDArray[np.int64],
    twins: Sequence[int],
    ground: NDArray[np.bool_],
    aspect: float,
    horizon: float,
    association: float,
    things: Sequence[Occluder],
    view: Camera,
) -> Array:
    """What crossings, hiding, and leaving add to the paths, [N, T, 2]."""
    n, frames = len(path), len(time) - 2
    moved = np.zeros_like(path)
    rounds = frames / 16

    def pull(i: int, target: Array, centre: float, half: float) -> None:
        """Bring i to `target` [T, 2] or [2] around `centre`, staying `half` frames each way."""
        gap = np.broadcast_to(target, path[i].shape) - path[i]
        ramp = max(5.0, float(np.hypot(*gap[int(np.clip(centre, 0, frames))])) * 1.5 / _FASTEST)
        far = np.clip((np.abs(time - centre) - half) / ramp, 0, 1)
        moved[i] += (gap - moved[i]) * (0.5 + 0.5 * np.cos(np.pi * far))[:, None]

    for _ in range(rng.poisson(n * rounds * (0.05 + 0.5 * association))):
        i, centre = int(rng.integers(n)), float(rng.uniform(0.1, 0.9) * frames)
        alike = [k for k in range(n) if k != i and twins[k] == twins[i]]
        others = alike if alike and rng.random() < 0.8 else [k for k in range(n) if k != i]
        if others:
            j, now = int(rng.choice(others)), int(centre) + 1
            meet = (path[i, now] + moved[i, now] + path[j, now] + moved[j, now]) / 2
            for k in (i, j):
                own = path[k] + moved[k]
                pull(k, own + (meet - own[now]), centre, 1.0)
    for _ in range(rng.poisson(n * rounds * 0.35 * association) if things else 0):
        i, thing = int(rng.integers(n)), things[int(rng.integers(len(things)))]
        half = float(rng.uniform(0.5, 1 + 4 * association))
        place = np.array([thing.x, thing.y]) - view.pan[np.clip(time, 0, frames - 1)]
        if thing.kind == "trunk" or ground[i]:
            place[:, 1] = np.clip(path[i, :, 1], max(horizon, 0.1) if ground[i] else 0.1, 0.9)
        pull(i, place + rng.uniform(-0.03, 0.03, 2), float(rng.uniform(0.15, 0.85) * frames), half)
    for leaver in np.flatnonzero(rng.random(n) < 1 - (1 - 0.08 - 0.4 * association) ** min(rounds, 2)):
        centre = float(rng.uniform(0, frames))
        here = path[leaver, int(centre)]
        side = np.array([-0.3 if here[0] < aspect / 2 else aspect + 0.3, here[1]])
        pull(int(leaver), side, centre, float(rng.uniform(0, 1 + 3 * association)))
    return moved
