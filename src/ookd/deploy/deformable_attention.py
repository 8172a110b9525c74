"""Deformable attention on CPUs: every query takes weighted bilinear samples of a few feature levels.

The values of one head are copied into one block, so that they stay in the cache while all queries sample
them. numba compiles the code on first use and keeps the result on disk, if it can, for later processes.
"""

from __future__ import annotations

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ookd.cores import usable_cores

CORES = usable_cores()  # read on import, before a runtime binds the calling thread to one core
Floats = NDArray[np.float32]


def deformable_attention(
    value: Floats,
    offsets: Floats,
    weights: Floats,
    reference: Floats,
    shapes: NDArray[np.int64],
    out: Floats,
) -> None:
    """Write the weighted samples of every query to `out` [1, Q, M*D].

    value [1, S, M, D] holds L levels of these shapes [L, 2] (h, w); offsets [1, Q, M*L*P*2] start at the
    reference points or boxes [1, Q, L, 2 or 4]; weights [1, Q, M, L*P]. Offsets from a point are in cells of
    the level. Offsets from a box are in shares of its size: P is half of it.
    """
    heads, dim = value.shape[2:]
    levels, points = len(shapes), weights.shape[3] // len(shapes)
    kernel = _kernel(dim, levels, points, reference.shape[3] == 4)
    arrays = [array.reshape(-1) for array in (value, offsets, weights, reference, shapes, out)]

    def some_heads(first: int) -> None:
        for head in range(first, heads, len(CORES)):
            kernel(*arrays, heads, head)

    others = [_threads().submit(some_heads, first) for first in range(1, min(len(CORES), heads))]
    some_heads(0)
    for other in others:
        other.result()


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(len(CORES), "deformable", _use_all_cores)


def _use_all_cores() -> None:
    """Undo the binding that a new thread inherits: OpenVINO binds the thread that starts it to one core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, CORES)


@cache
def _kernel(dim: int, levels: int, points: int, boxes: bool) -> Any:
    """The function for one head. These sizes are compiled in, so that loops over them are vectorised.

    Indices are unsigned: numba then skips its code for negative ones.
    """
    samples = levels * points
    D, L, P, N = (np.uint64(number) for number in (dim, levels, points, samples))
    zero, half, one = (np.float32(number) for number in (0, 0.5, 1))
    numbers = np.uint64(4 if boxes else 2)  # in a reference
    share = np.float32(0.5 / points)  # of a box's size: an offset of 1

    @njit(nogil=True, fastmath={"contract", "nsz"}, error_model="numpy")
    def one_head(value, offsets, weights, reference, shapes, out, heads, head):  # type: ignore[no-untyped-def]
        heads, head = np.uint64(heads), np.uint64(head)
        cells, queries = np.uint64(value.size) // (heads * D), np.uint64(weights.size) // (heads * N)
        table = np.empty(cells * D, np.float32)
        for cell in range(cells):
            for c in range(D):
                table[cell * D + c] = value[(cell * heads + head) * D + c]

        height, width = np.empty(samples, np.float32), np.empty(samples, np.float32)
        first = np.empty(samples, np.float32)  # index of the first cell of a sample's level
        total = 0
        for level in range(levels):
            for i in range(level * points, (level + 1) * points):
                height[i], width[i], first[i] = shapes[2 * level], shapes[2 * level + 1], total
            total += shapes[2 * level] * shapes[2 * level + 1]
        # where offsets start, in 0..1 of the map, and the cells in an offset of 1
        x_start, y_start = np.empty(samples, np.float32), np.empty(samples, np.float32)
        x_scale, y_scale = np.ones(samples, np.float32), np.ones(samples, np.float32)
        rows, shares = np.empty((4, samples), np.int32), np.empty((4, samples), np.float32)
        sums = np.empty(dim, np.float32)

        for query in range(queries):
            for level in range(L):
                at = (query * L + level) * numbers
                for i in range(level * P, (level + np.uint64(1)) * P):
                    x_start[i], y_start[i] = reference[at], reference[at + np.uint64(1)]
                    if boxes:
                        x_scale[i] = reference[at + np.uint64(2)] * width[i] * share
                        y_scale[i] = reference[at + np.uint64(3)] * height[i] * share
            at = (query * heads + head) * N
            for i in range(N):
                w, h, weight = width[i], height[i], weights[at + i]
                dx, dy = offsets[np.uint64(2) * (at + i)], offsets[np.uint64(2) * (at + i) + np.uint64(1)]
                x = x_start[i] * w + dx * x_scale[i] - half  # in cells
                y = y_start[i] * h + dy * y_scale[i] - half
                # at most one cell outside, NaN included; corners outside get no weight
                x, y = x if x > -one else -one, y if y > -one else -one
                x, y = x if x < w else w, y if y < h else h
                left, top = np.floor(x), np.floor(y)
                from_left, from_top = x - left, y - top
                at_left = one - from_left if (left >= zero) & (left < w) else zero
                at_right = from_left if left < w - one else zero
                at_top = weight * (one - from_top) if (top >= zero) & (top < h) else zero
                at_bottom = weight * from_top if top < h - one else zero
                left, right = min(max(left, zero), w - one), min(left + one, w - one)
                upper = first[i] + w * min(max(top, zero), h - one)
                lower = first[i] + w * min(top + one, h - one)
                rows[0, i], shares[0, i] = np.int32(upper + left), at_top * at_left
                rows[1, i], shares[1, i] = np.int32(upper + right), at_top * at_right
                rows[2, i], shares[2, i] = np.int32(lower + left), at_bottom * at_left
                rows[3, i], shares[3, i] = np.int32(lower + right), at_bottom * at_right
            sums[:] = zero
            for i in range(N):
                row0, row1 = np.uint64(rows[0, i]) * D, np.uint64(rows[1, i]) * D
                row2, row3 = np.uint64(rows[2, i]) * D, np.uint64(rows[3, i]) * D
                share0, share1, share2, share3 = shares[0, i], shares[1, i], shares[2, i], shares[3, i]
                for c in range(D):
                    above = share0 * table[row0 + c] + share1 * table[row1 + c]
                    sums[c] += above + share2 * table[row2 + c] + share3 * table[row3 + c]
            at = (query * heads + head) * D
            for c in range(D):
                out[at + c] = sums[c]

    with contextlib.suppress(RuntimeError):
        one_head.enable_caching()
    return one_head
