"""The layout of one video: its shape, its horizon, the drift of the camera, and the obstacles.

Screen coordinates everywhere: the frame is 1 high and `aspect` wide, y down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """How the view drifts over L frames."""

    pan: Array  # [L, 2] heights
    zoom: Array  # [L]
    roll: Array  # [L] radians


@dataclass(frozen=True)
class Occluder:
    """An obstacle in front of the objects. `x, y` is its centre while the camera does not pan."""

    kind: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class SceneLayout:
    frames: int
    aspect: float
    horizon: float  # where the ground begins; 0 if it fills the view
    association: float
    camera: Camera
    occluders: Sequence[Occluder] = ()


def drift(rng: np.random.Generator, frames: int) -> Camera:
    """The drift of a hand-held camera: slow sines that start at 0."""
    rate, start = rng.uniform(0.06, 0.19, 4), rng.uniform(0, 2 * np.pi, 4)
    waves = np.sin(np.outer(np.arange(frames), rate) + start) - np.sin(start)
    reach = rng.uniform(0, 1, 4) * (0.06, 0.03, 0.03, 0.012)
    return Camera(waves[:, :2] * reach[:2], 1.03 + waves[:, 2] * reach[2], waves[:, 3] * reach[3])


def obstacles(rng: np.random.Generator, association: float, aspect: float) -> list[Occluder]:
    """Obstacles; more and broader ones the harder identity is."""
    things = []
    for _ in range(rng.binomial(3, 0.15 + 0.55 * association)):
        x = float(rng.uniform(0.15, aspect - 0.15))
        breadth = float(rng.uniform(0.8, 1.2)) * (0.6 + 0.6 * association)
        match rng.integers(3):
            case 0:
                things.append(Occluder("trunk", x, 0.4, 0.2 * breadth, 1.5))
            case 1:
                y = float(rng.uniform(0.45, 0.85))
                things.append(Occluder("bush", x, y, 0.5 * breadth, 0.4 * breadth))
            case _:
                y = float(rng.uniform(0.5, 0.9))
                things.append(Occluder("rock", x, y, 0.42 * breadth, 0.3 * breadth))
    return things
