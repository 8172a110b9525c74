"""Bodies as jointed outlines: a few closed polygons that swing, flap, bend, pulse and wobble with a phase.

Body coordinates: x forward, y down; a body is about one unit long and centred at 0. All parts have the same
number of points, so a pose takes a few array operations, whatever the creature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float32]  # [K, 2]
K = 28

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class BodyPart:
    """One outline and how it moves. Parts are painted in order; later ones lie on top."""

    outline: Points
    pivot: tuple[float, float] = (0.0, 0.0)
    swing: float = 0.0  # radians each way around the pivot
    offset: float = 0.0  # where in the cycle, radians
    rate: float = 1.0  # cycles a body cycle
    flap: tuple[float, float] = (
        0.0,
        0.0,
    )  # how far x, y fold towards the pivot; above 1, through it
    spin: bool = False  # turns with the phase instead of swinging (wheels)
    tone: float = 1.0  # brightness of the body's texture here
    colour: Colour | None = None  # painted plainly instead of textured


@dataclass(frozen=True)
class Deform:
    """How the whole body deforms: a wave along it, a pulse, a soft outline."""

    bend: float = 0.0  # height of the travelling wave
    waves: float = 1.0  # waves along the body
    stiff: float = 1.0  # 1: the head holds still and the tail swings; 0: even
    pulse: float = 0.0  # stretch in x against y
    wobble: float = 0.0  # ripple of each outline


RIGID = Deform()


def ellipse(x: float, y: float, rx: float, ry: float, turn: float = 0.0) -> Points:
    a = np.linspace(0, 2 * np.pi, K, endpoint=False)
    c, s = np.cos(turn), np.sin(turn)
    u, v = rx * np.cos(a), ry * np.sin(a)
    return np.stack([x + c * u - s * v, y + s * u + c * v], -1).astype(np.float32)


def _read(points: str) -> NDArray[np.float64]:
    """Points written as "x,y x,y ..." in hundredths, [n, 2]."""
    return np.array([point.split(",") for point in points.split()], np.float64) / 100


def smooth(points: str) -> Points:
    """A closed curve through control points (Catmull-Rom)."""
    p = _read(points)
    u = np.arange(K) * len(p) / K
    i, f = u.astype(int), (u % 1)[:, None]
    a, b, c, d = (p[(i + k) % len(p)] for k in (-1, 0, 1, 2))
    curve = b + f / 2 * (c - a + f * (2 * a - 5 * b + 4 * c - d + f * (3 * (b - c) + d - a)))
    return np.asarray(curve, np.float32)


def corners(points: str) -> Points:
    """A polygon with straight edges, its points spread over them."""
    p = _read(points)
    u = np.arange(K) * len(p) / K
    i, f = u.astype(int), (u % 1)[:, None]
    return np.asarray(p[i] * (1 - f) + p[(i + 1) % len(p)] * f, np.float32)


def limb(start: tuple[float, float], end: tuple[float, float], wide: float, narrow: float) -> Points:
    """A tapered, round-ended limb."""
    a, b = np.asarray(start, np.float64), np.asarray(end, np.float64)
    turn = np.arctan2(b[1] - a[1], b[0] - a[0])
    half = np.linspace(np.pi / 2, 3 * np.pi / 2, K // 2) + turn
    arc = np.stack([np.cos(half), np.sin(half)], -1)
    return np.concatenate([a + wide / 2 * arc, b - narrow / 2 * arc]).astype(np.float32)


@dataclass(frozen=True)
class Body:
    """The parts of one creature stacked into arrays, with its own proportions."""

    outlines: Points  # [P, K, 2]
    pivots: NDArray[np.float32]  # [P, 2]
    motion: NDArray[np.float32]  # [P, 6] swing, offset, rate, flap x, flap y, spin
    tones: NDArray[np.float32]  # [P]
    colours: list[Colour | None]
    deform: Deform
    ripple: NDArray[np.float32] = field(repr=False)  # [P, K] ripple phase of each outline point

    @classmethod
    def build(cls, parts: Sequence[BodyPart], deform: Deform, rng: np.random.Generator) -> Body:
        """An individual of its kind: proportions vary a little, parts on one joint together."""
        stretch = 1 + 0.1 * rng.uniform(-1, 1, 2)
        growth = {joint: 1 + 0.12 * rng.uniform(-1, 1) for joint in dict.fromkeys(p.pivot for p in parts)}
        outlines, pivots = [], []
        for part in parts:
            pivot, own = np.asarray(part.pivot), growth[part.pivot]
            outlines.append(((part.outline - pivot) * own + pivot) * stretch)
            pivots.append(pivot * stretch)
        motion = [(p.swing, p.offset, p.rate, *p.flap, float(p.spin)) for p in parts]
        waves = np.linspace(0, 2 * np.pi, K, endpoint=False) * rng.integers(2, 5, (len(parts), 1))
        return cls(
            np.asarray(outlines, np.float32),
            np.asarray(pivots, np.float32),
            np.asarray(motion, np.float32),
            np.asarray([p.tone for p in parts], np.float32),
            [p.colour for p in parts],
            deform,
            (waves + rng.uniform(0, 2 * np.pi, (len(parts), 1))).astype(np.float32),
        )

    def pose(self, phase: float) -> Points:
        """Outlines at a phase of the cycle, [P, K, 2] in body coordinates."""
        swing, offset, rate, flap_x, flap_y, spin = self.motion.T
        cycle = rate * phase + offset
        angle = np.where(spin > 0, cycle, swing * np.sin(cycle))
        c, s = np.cos(angle), np.sin(angle)
        fold = 0.5 - 0.5 * np.cos(cycle)
        arm = self.outlines - self.pivots[:, None]
        x = arm[..., 0] * (1 - flap_x * fold)[:, None]
        y = arm[..., 1] * (1 - flap_y * fold)[:, None]
        x, y = c[:, None] * x - s[:, None] * y, s[:, None] * x + c[:, None] * y
        give = self.deform
        if give.wobble:
            ripple = 1 + give.wobble * np.sin(self.ripple + phase)
            x, y = x * ripple, y * ripple
        x, y = x + self.pivots[:, :1], y + self.pivots[:, 1:]
        if give.bend:
            envelope = (1 - give.stiff) + give.stiff * np.clip(0.5 - x, 0, 1.2)
            y = y + give.bend * envelope * np.sin(2 * np.pi * give.waves * x + phase)
        if give.pulse:
            beat = give.pulse * np.sin(phase)
            x, y = x * (1 + beat), y * (1 - beat)
        return np.stack([x, y], -1).astype(np.float32)
