"""Clips made of single images, to learn from image data what a video model can learn from it.

An image is a video of one frame, so a sampler repeats it for the whole clip; what is here makes the copies
differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ookd.clips.transforms import (
    Augment,
    EachFrame,
    Either,
    RandomCrop,
    RandomFlip,
    RandomShortSide,
)
from ookd.clips.warps import Crop, Rotate, Size, Warp


def published_pair(sides: tuple[int, ...], longest: int) -> Augment:
    """How IDOL was pre-trained on COCO: each copy is flipped, cropped and scaled on its own."""
    scaled = RandomShortSide(sides, longest)
    cropped = Augment(RandomShortSide((400, 500, 600)), RandomCrop(384, 600), scaled)
    return Augment(EachFrame(Augment(RandomFlip(), Either(0.5, cropped, scaled))))


@dataclass(frozen=True, slots=True)
class RandomCamera:
    """A camera that moves over the image: its window glides, zooms and tilts from one random pose to another.

    Unlike independent crops this gives clips of any length whose frames follow each other. A window shows at
    least `zoom` of the image's sides; the camera tilts by at most `degrees`.
    """

    zoom: float = 0.6
    degrees: float = 8.0

    def draw(self, sizes: Sequence[Size], rng: np.random.Generator) -> list[list[Warp]]:
        share = rng.uniform(self.zoom, 1, 2)  # at the beginning and at the end
        place = rng.uniform(0, 1, (2, 2))  # of the window in the room it has, by height and width
        angle = rng.uniform(-self.degrees, self.degrees, 2)
        warps: list[list[Warp]] = []
        for time, (height, width) in zip(np.linspace(0, 1, len(sizes)), sizes, strict=True):
            eased = time * time * (3 - 2 * time)  # starts and stops gently
            now = [(1 - eased) * pose[0] + eased * pose[1] for pose in (share, place, angle)]
            h, w = round(height * now[0]), round(width * now[0])
            y, x = round((height - h) * now[1][0]), round((width - w) * now[1][1])
            warps.append([Rotate(float(now[2])), Crop(x, y, w, h)])
        return warps
