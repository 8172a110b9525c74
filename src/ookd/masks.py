"""From a model's coarse mask logits to masks of the original frame."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a frame reached the model: its own size, its size after resizing and before padding."""

    height: int
    width: int
    resized_height: int
    resized_width: int
    stride: int = 4  # pixels of the resized frame in a cell of the mask logits


def full_size(logits: Floats, geometry: Geometry) -> tuple[Bools, Floats]:
    """Masks [N, H, W] of the original frame and their tight boxes [N, 4] x1 y1 x2 y2 (end exclusive).

    The logits [N, h, w] are of the resized and padded frame. The published steps are: bilinear to the size of
    that frame, sigmoid, crop of the padding, nearest to the original size, > 0.5. Here only the pixels that
    the nearest step reads are interpolated, and only around each object. An empty mask has a box of zeros.
    """
    n, h, w = logits.shape
    rows = _taps(h, geometry.stride, geometry.resized_height, geometry.height)
    columns = _taps(w, geometry.stride, geometry.resized_width, geometry.width)
    masks = np.zeros((n, geometry.height, geometry.width), bool)
    boxes = np.zeros((n, 4), np.float32)
    positive = logits > 0
    down, across = positive.max(2), positive.max(1)  # [N, h], [N, w]
    for index, logit in enumerate(logits):
        y = rows.touched(np.flatnonzero(down[index]))
        x = columns.touched(np.flatnonzero(across[index]))
        if not x.stop:
            continue
        first = columns.low[x.start]
        crop = logit[:, first : columns.high[x.stop - 1] + 1]
        near = crop[rows.low[y]] * rows.near[y, None] + crop[rows.high[y]] * rows.far[y, None]  # [H', w']
        low, high = columns.low[x] - first, columns.high[x] - first
        inside = near[:, low] * columns.near[x] + near[:, high] * columns.far[x] > 0
        masks[index, y, x] = inside
        at_y, at_x = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        if len(at_y):
            left, top = x.start, y.start
            boxes[index] = left + at_x[0], top + at_y[0], left + at_x[-1] + 1, top + at_y[-1] + 1
    return masks, boxes


@dataclass(frozen=True, slots=True)
class _Taps:
    """Linear interpolation along one axis: each output takes `low` x `near` + `high` x `far`."""

    low: Ints  # [out]
    high: Ints  # [out]
    near: Floats  # [out]
    far: Floats  # [out]

    def touched(self, inputs: Ints) -> slice:
        """From the first to the last output that reads one of these ascending inputs.

        The slice is empty if there are no inputs, or if all of them are padding.
        """
        if not len(inputs) or inputs[0] > self.high[-1]:
            return slice(0, 0)
        start = np.searchsorted(self.high, inputs[0])
        return slice(int(start), int(np.searchsorted(self.low, inputs[-1], side="right")))


@lru_cache(maxsize=64)
def _taps(cells: int, stride: int, resized: int, original: int) -> _Taps:
    """For each of the `original` pixels: its nearest `resized` pixel, interpolated between `cells`."""
    scale = np.float32(resized) / np.float32(original)  # in single precision, as in the published resize
    pixel = np.minimum((np.arange(original, dtype=np.float32) * scale).astype(int), resized - 1)
    place = np.maximum((pixel + 0.5) / stride - 0.5, 0).astype(np.float32)
    low = np.minimum(place.astype(int), cells - 1)
    far = place - low
    return _Taps(low, np.minimum(low + 1, cells - 1), 1 - far, far)
