"""Layers of a frame: where each one is, what it covers, and what of it stays visible."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Affine = NDArray[np.float64]  # [2, 3]

UNSEEN = 16  # an object with fewer visible pixels counts as not visible


@dataclass(frozen=True)
class Region:
    """A rectangle of a frame."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def shape(self) -> tuple[int, int]:
        return self.bottom - self.top, self.right - self.left


@dataclass(frozen=True)
class SceneLayer:
    """The part of a frame that something covers if nothing hides it."""

    region: Region
    alpha: Image  # [h, w] of the region

    @cached_property
    def mask(self) -> Mask:
        """[h, w] of the region: the pixels that are more than half covered."""
        return self.alpha >= 128


def compose(after: Affine, before: Affine) -> Affine:
    """The affine that applies `before`, then `after`."""
    both = after[:, :2] @ before
    both[:, 2] += after[:, 2]
    return np.asarray(both)


def region_of(
    affine: Affine, box: tuple[float, float, float, float], height: int, width: int
) -> Region | None:
    """The region of a frame that a box (left, top, right, bottom) may touch after a warp; None if none."""
    left, top, right, bottom = box
    corners = affine @ np.array([[left, right, left, right], [top, top, bottom, bottom], [1, 1, 1, 1]])
    x, y = np.maximum(np.floor(corners.min(1)), 0).astype(int).tolist()
    right, bottom = np.minimum(np.ceil(corners.max(1)), (width, height)).astype(int).tolist()
    return Region(y, x, bottom, right) if bottom > y and right > x else None


def warp_into(image: Image, affine: Affine, region: Region) -> Image:
    """The part of a warped image that falls into a region of the frame."""
    shifted = compose(np.array([[1.0, 0, -region.left], [0, 1, -region.top]]), affine)
    return np.asarray(cv2.warpAffine(image, shifted, region.shape[::-1]), np.uint8)


def blend(canvas: Image, colour: Image, alpha: Image, region: Region) -> None:
    """Lay `colour` over a region of the canvas, in place."""
    below, weight = canvas[region.slices], alpha.astype(np.float32) * (1 / 255)
    below[...] = cv2.blendLinear(colour, below, weight, 1 - weight)


def full_masks(layers: Sequence[SceneLayer | None], height: int, width: int) -> Mask:
    """Everything that each layer covers, [N, H, W]."""
    full = np.zeros((len(layers), height, width), np.bool_)
    for mask, layer in zip(full, layers, strict=True):
        if layer is not None:
            mask[layer.region.slices] = layer.mask
    return full


def visible_masks(
    layers: Sequence[SceneLayer | None],
    far_to_near: Iterable[int],
    height: int,
    width: int,
    covers: Iterable[SceneLayer] = (),
) -> Mask:
    """The visible part of each layer, [N, H, W]: the nearest one owns a pixel unless a cover hides it."""
    owner = np.zeros((height, width), np.uint16)
    for n in far_to_near:
        layer = layers[n]
        if layer is not None:
            owner[layer.region.slices][layer.mask] = n + 1
    for cover in covers:
        owner[cover.region.slices][cover.mask] = 0
    visible = np.zeros((len(layers), height, width), np.bool_)
    for n, layer in enumerate(layers):
        if layer is not None:
            mine = owner[layer.region.slices] == n + 1
            if np.count_nonzero(mine) >= UNSEEN:
                visible[n][layer.region.slices] = mine
    return visible
