"""Augmentation of clips: what is drawn at random.

A `Transform` (`RandomFlip`, `RandomShortSide`, ...) draws a list of warps for each frame of a clip. Mostly it
is the same for all frames, which preserves motion. `Augmentation` chains transforms; it is a stage of
`ClipDataset`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ookd.clips.warps import Crop, Flip, Recolour, Resize, Rotate, Size, Warp, warp_clip
from ookd.structures import Clip


class Transform(Protocol):
    """Draws warps for the frames of a clip of these sizes."""

    def draw(self, sizes: Sequence[Size], rng: np.random.Generator) -> list[list[Warp]]: ...


class Augmentation:
    """Transforms, one after the other."""

    def __init__(self, *transforms: Transform) -> None:
        self.transforms = transforms

    def draw(self, sizes: Sequence[Size], rng: np.random.Generator) -> list[list[Warp]]:
        sizes = list(sizes)
        warps: list[list[Warp]] = [[] for _ in sizes]
        for transform in self.transforms:
            for t, steps in enumerate(transform.draw(sizes, rng)):
                warps[t] += steps
                for step in steps:
                    sizes[t] = step.size(sizes[t])
        return warps

    def __call__(self, clip: Clip, rng: np.random.Generator) -> Clip:
        sizes = [(image.shape[0], image.shape[1]) for image in clip.images]
        return warp_clip(clip, self.draw(sizes, rng))


@dataclass(frozen=True, slots=True)
class Either:
    """`first` with the given probability, else `second`, for the whole clip."""

    probability: float
    first: Transform
    second: Transform

    def draw(self, sizes: Sequence[Size], rng: np.random.Generator) -> list[list[Warp]]:
        return (self.first if rng.random() < self.probability else self.second).draw(sizes, rng)


@dataclass(frozen=True, slots=True)
class EachFrame:
    """Draws for each frame separately."""

    transform: Transform

    def draw(self, sizes: Sequence[Size], rng: np.random.Generator) -> list[list[Warp]]:
        return [self.transform.draw([size], rng)[0] for size in sizes]


@dataclass(frozen=True, slots=True)
class RandomFlip:
    probability: float = 0.5

    def draw(self, sizes: Sequence[Size], rng: np.random.Generator) -> list[list[Warp]]:
        flips = rng.random() < self.probability
        return [[Flip()] if flips else [] for _ in sizes]


@dataclass(frozen=True, slots=True)
class RandomShortSide:
    """Scales the short side to one of `sides`, but the long side to `longest` at most."""

    sides: tuple[int, ...]
    longest: int | None = None

    def draw(self, sizes: Sequence[Size], rng: np.random.Generator) -> list[list[Warp]]:
        side = self.sides[rng.integers(len(self.sides))]
        return [[_short_side(size, side, self.longest)] for size in sizes]


def _short_side(size: Size, side: int, longest: int | None) -> Resize:
    scale = side / min(size)
    new = [side if old == min(size) else scale * old for old in size]
    if longest is not None and max(new) > longest:
        shrink = longest / max(new)
        new = [old * shrink for old in new]
    return Resize(int(new[0] + 0.5), int(new[1] + 0.5))


@dataclass(frozen=True, slots=True)
class RandomCrop:
    """Crops to a window whose sides are drawn from `smallest` to `largest` pixels, within the frame.

    All frames share the window, so they must have one size; `EachFrame` gives each its own window.
    """

    smallest: int
    largest: int

    def draw(self, sizes: Sequence[Size], rng: np.random.Generator) -> list[list[Warp]]:
        height, width = (min(sides) for sides in zip(*sizes, strict=True))
        h = int(rng.integers(min(height, self.smallest), min(height, self.largest) + 1))
        w = int(rng.integers(min(width, self.smallest), min(width, self.largest) + 1))
        y, x = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
        return [[Crop(x, y, w, h)] for _ in sizes]


@dataclass(frozen=True, slots=True)
class RandomRotation:
    """Tilts the camera by at most `degrees` either way."""

    degrees: float

    def draw(self, sizes: Sequence[Size], rng: np.random.Generator) -> list[list[Warp]]:
        angle = float(rng.uniform(-self.degrees, self.degrees))
        return [[Rotate(angle)] for _ in sizes]


@dataclass(frozen=True, slots=True)
class RandomColour:
    """Draws factors within 1 ± each number, and a hue shift within ± `hue` degrees, for the whole clip."""

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.3
    hue: float = 10.0

    def draw(self, sizes: Sequence[Size], rng: np.random.Generator) -> list[list[Warp]]:
        brightness, contrast, saturation, hue = map(float, rng.uniform(-1, 1, 4))
        recolour = Recolour(
            1 + brightness * self.brightness,
            1 + contrast * self.contrast,
            1 + saturation * self.saturation,
            hue * self.hue,
        )
        return [[recolour] for _ in sizes]


def idol_video_augment(sides: tuple[int, ...], longest: int) -> Augmentation:
    """The augmentation of IDOL's training on video.

    All frames of a clip share size, flip and whether they are cropped, but each has a crop window of its own.
    """
    scaled = Augmentation(RandomShortSide(sides, longest), RandomFlip())
    cropped = Augmentation(EachFrame(RandomCrop(384, 600)), RandomShortSide(sides, longest), RandomFlip())
    return Augmentation(Either(0.5, cropped, scaled))


def idol_image_augment(sides: tuple[int, ...], longest: int) -> Augmentation:
    """The augmentation of IDOL's pre-training on COCO: each copy of an image is changed on its own.

    An image is a video of one frame, which a sampler repeats for the whole clip.
    """
    scaled = RandomShortSide(sides, longest)
    cropped = Augmentation(RandomShortSide((400, 500, 600)), RandomCrop(384, 600), scaled)
    return Augmentation(EachFrame(Augmentation(RandomFlip(), Either(0.5, cropped, scaled))))
