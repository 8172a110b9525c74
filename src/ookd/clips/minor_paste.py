"""Minor-Paste: objects of rare classes, cut out of other videos, pasted into training clips as real targets.

A pasted object keeps its own motion from frame to frame, plus one scale, one flip and a smooth drift for the
whole clip. It is one object with one id in all frames, for teacher and student alike. It lies on top: what it
covers is cut from the masks below, and an instance with too little left in a frame does not count as visible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, Field, model_validator

from ookd.clips.cutouts import MARGIN, CutOut, CutOutBank
from ookd.clips.sources import ClipSource
from ookd.clips.warps import Size
from ookd.structures import Clip

PASTED = 1 << 32  # ids of pasted instances start here, above those of any data set


class MinorPasteConfig(BaseModel, frozen=True, extra="forbid"):
    """How often objects are pasted, of which classes, how large and how fast."""

    probability: float = Field(0.5, ge=0, le=1, description="share of the clips that get pasted objects")
    most: int = Field(2, ge=1, le=20, description="most objects pasted into one clip")
    threshold: float = Field(
        1.0, gt=0, le=1, description="classes with at least this share of the tracks are drawn equally often"
    )
    gamma: float = Field(
        0.5,
        ge=0,
        le=2,
        description="0: all classes equally often; 1: in inverse proportion to their share",
    )
    scale: tuple[float, float] = Field(
        (0.6, 1.4), description="size of a pasted object relative to its own video"
    )
    drift: float = Field(0.01, ge=0, le=0.1, description="typical added speed, in frame heights per frame")
    min_visible: float = Field(
        0.1, ge=0, le=1, description="share of its area that an instance must keep to count as visible"
    )
    min_area: float = Field(0.001, ge=0, le=0.2, description="least share of the frame that an object covers")

    @model_validator(mode="after")
    def _ordered(self) -> MinorPasteConfig:
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale {self.scale} must be two numbers above 0, the smaller first")
        return self


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a cut-out goes: a point p of its own frame, mirrored if `flip`, goes to shift + scale p."""

    scale: float
    flip: bool
    shift: NDArray[np.float64]  # [T, 2] x y


class MinorPaste:
    """A stage of `ClipDataset`. Objects come from `source`, usually the one that clips come from."""

    def __init__(self, source: ClipSource, config: MinorPasteConfig) -> None:
        self.config = config
        self.bank = CutOutBank(source, config.threshold, config.gamma)

    def __call__(self, clip: Clip, rng: np.random.Generator) -> Clip:
        if rng.random() >= self.config.probability:
            return clip
        times, used, layers = _times(clip), {clip.video}, []
        for _ in range(rng.integers(1, self.config.most + 1)):
            cutout = self.bank.draw(times, rng, used)
            if cutout is not None:
                used.add(cutout.video)  # one object must not be visible under two ids
                layers.append((cutout, self._place(cutout, clip, times, rng)))
        return paste(clip, layers, self.config.min_visible) if layers else clip

    def expected_per_clip(self) -> NDArray[np.float64]:
        """[K] mean number of objects of each class pasted into a clip, if a track is found for every draw."""
        per_clip: NDArray[np.float64] = self.bank.probabilities * self.config.probability
        return per_clip * (1 + self.config.most) / 2

    def _place(
        self, cutout: CutOut, clip: Clip, times: NDArray[np.int64], rng: np.random.Generator
    ) -> Placement:
        size = clip.images[0].shape[:2]
        frame = np.array([size[1], size[0]])
        scale = self._scale(cutout, (size[0], size[1]), rng)
        flip = bool(rng.random() < 0.5)

        seen = [t for t, piece in enumerate(cutout.pieces) if piece is not None]
        middle = seen[len(seen) // 2]
        piece = cutout.pieces[middle]
        assert piece is not None
        height, width = piece.mask.shape
        centre = np.array([piece.x + width / 2, piece.y + height / 2])
        if flip:
            centre[0] = cutout.size[1] - centre[0]
        place = rng.uniform(0, 1, 2) * frame
        way = _drift(times - times[middle], self.config.drift * size[0], rng)
        return Placement(scale, flip, place - scale * centre + way)

    def _scale(self, cutout: CutOut, size: Size, rng: np.random.Generator) -> float:
        """The scale that keeps its share of the frame, varied; neither tiny nor larger than the frame."""
        pieces = [piece for piece in cutout.pieces if piece is not None]
        low, high = np.log(self.config.scale)
        scale = min(size) / min(cutout.size) * np.exp(rng.uniform(low, high))
        area = max(piece.mask.sum() for piece in pieces)
        smallest = np.sqrt(self.config.min_area * size[0] * size[1] / area)
        largest = min(min(np.array(size) / piece.mask.shape) for piece in pieces)
        return float(min(max(scale, smallest), 0.8 * largest))


def paste(clip: Clip, layers: Sequence[tuple[CutOut, Placement]], min_visible: float) -> Clip:
    """The clip with the cut-outs on top, the last one topmost; they become its last instances."""
    images, masks, ignore = [], [], []
    for t, image in enumerate(clip.images):
        image, pasted = image.copy(), np.zeros((len(layers), *image.shape[:2]), np.bool_)
        for mask, (cutout, placement) in zip(pasted, layers, strict=True):
            _put(cutout, placement, t, min_visible, image, mask)
        images.append(image)
        if clip.ignore is not None:
            ignore.append(clip.ignore[t] & ~pasted.any(0))
        masks.append(_uncovered(np.concatenate([clip.masks[t], pasted]), len(layers), min_visible))
    seen = np.any([frame.any((1, 2)) for frame in masks], axis=0)
    labels = np.array([cutout.label for cutout, _ in layers], np.int64)
    return replace(
        clip,
        images=images,
        masks=[frame[seen] for frame in masks],
        labels=np.concatenate([clip.labels, labels])[seen],
        ids=np.concatenate([clip.ids, PASTED + np.arange(len(layers))])[seen],
        ignore=None if clip.ignore is None else ignore,
        weights=None if clip.weights is None else _with_ones(clip.weights, len(layers))[seen],
    )


def _with_ones(weights: NDArray[np.float32], layers: int) -> NDArray[np.float32]:
    """[N + layers, T] the weights, and 1 for what is pasted."""
    return np.concatenate([weights, np.ones((layers, weights.shape[1]), np.float32)])


def _uncovered(masks: NDArray[np.bool_], layers: int, min_visible: float) -> NDArray[np.bool_]:
    """[N, H, W] the visible part of each mask below the last `layers` ones; empty if it is too small."""
    left = masks.copy()
    covered = np.zeros(masks.shape[1:], np.bool_)
    for n in range(len(masks) - 1, -1, -1):
        left[n] &= ~covered
        if n >= len(masks) - layers:
            covered |= masks[n]
    left[left.sum((1, 2)) < min_visible * masks.sum((1, 2))] = False
    return left


def _put(
    cutout: CutOut,
    placement: Placement,
    t: int,
    min_visible: float,
    image: NDArray[np.uint8],
    covered: NDArray[np.bool_],
) -> None:
    """Draw a piece into the frame and its mask, unless too little of it lies inside the frame.

    A pixel is covered if its centre falls into a source pixel of the object.
    """
    piece = cutout.pieces[t]
    if piece is None:
        return
    mask, colours, x = piece.mask, piece.image, piece.x
    if placement.flip:
        mask, colours, x = mask[:, ::-1], colours[:, ::-1], cutout.size[1] - x - mask.shape[1]
    scale = placement.scale
    left, top = placement.shift[t] + scale * np.array([x, piece.y])
    columns, from_columns = _pixels(left, mask.shape[1], scale, image.shape[1])
    rows, from_rows = _pixels(top, mask.shape[0], scale, image.shape[0])
    patch = mask[from_rows[:, None], from_columns]
    if patch.sum() < max(1, min_visible * scale**2 * mask.sum()):
        return
    edges = np.array([[columns.start - left, rows.start - top], [columns.stop - left, rows.stop - top]])
    box = (edges / scale + MARGIN).clip(0, [colours.shape[1], colours.shape[0]])  # of `colours`, x y x y
    resized = Image.fromarray(np.ascontiguousarray(colours)).resize(
        (patch.shape[1], patch.shape[0]), Image.Resampling.BILINEAR, box=tuple(box.ravel())
    )
    image[rows, columns][patch] = np.asarray(resized)[patch]
    covered[rows, columns] = patch


def _pixels(start: float, length: int, scale: float, limit: int) -> tuple[slice, NDArray[np.int64]]:
    """Pixels within 0..limit whose centres lie on the source pixels from `start`, and those source pixels."""
    first = max(0, int(np.ceil(start - 0.5)))
    last = min(limit, int(np.ceil(start + scale * length - 0.5)))
    source = np.floor((np.arange(first, max(first, last)) + 0.5 - start) / scale).astype(np.int64)
    return slice(first, max(first, last)), source.clip(0, length - 1)


def _times(clip: Clip) -> NDArray[np.int64]:
    """[T] times of the frames; copies of one image count as consecutive frames."""
    if len(np.unique(clip.frames)) < len(clip.frames):
        return np.arange(len(clip.frames))
    return clip.frames


def _drift(times: NDArray[np.int64], speed: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """[T, 2] a smooth path, 0 at time 0: steady motion plus an oscillation."""
    velocity, swing = rng.normal(0, speed, (2, 2))
    period, phase = rng.uniform(15, 45), rng.uniform(0, 2 * np.pi)
    wave = np.sin(2 * np.pi * times / period + phase) - np.sin(phase)
    way: NDArray[np.float64] = velocity * times[:, None] + swing * period / (2 * np.pi) * wave[:, None]
    return way
