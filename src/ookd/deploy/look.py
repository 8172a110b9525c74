"""Deformable attention on CPUs: every query takes weighted bilinear samples of a few feature levels.

A head's cells are laid out one after another, so that its part of the values stays in fast memory while all
queries look at it. Compiled on first use; the next process finds it compiled, where files may be written.
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

# of the process, before a runtime has bound its threads
CORES = usable_cores()
Floats = NDArray[np.float32]


def look(
    value: Floats,
    offsets: Floats,
    weights: Floats,
    reference: Floats,
    shapes: NDArray[np.int64],
    seen: Floats,
) -> None:
    """Fill `seen` [1, Q, M*D]: value [1, S, M, D] of L levels with these shapes (h, w), offsets
    [1, Q, M*L*P*2] from the reference [1, Q, L, 2 or 4], weights [1, Q, M, L*P].

    An offset from a point is in cells of its level; from a box, in half a box's size for all P points.
    """
    heads, dim = value.shape[2:]
    levels, points = len(shapes), weights.shape[3] // len(shapes)
    kernel = _kernel(dim, levels, points, reference.shape[3] == 4)
    arrays = [array.reshape(-1) for array in (value, offsets, weights, reference, shapes, seen)]

    def part(first: int) -> None:
        for head in range(first, heads, len(CORES)):
            kernel(*arrays, heads, head)

    others = [_threads().submit(part, first) for first in range(1, min(len(CORES), heads))]
    part(0)
    for other in others:
        other.result()


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(len(CORES), "look", _anywhere)


def _anywhere() -> None:
    """Free a new thread: it is bound as the one that asked for it, which OpenVINO binds to one core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, CORES)


@cache
def _kernel(dim: int, levels: int, points: int, boxes: bool) -> Any:
    """For one head of arrays of these sizes: as constants, so that loops over them become vectors.

    Positions are unsigned, so that none could count from an array's end.
    """
    samples = levels * points
    D, L, P, N = (np.uint64(number) for number in (dim, levels, points, samples))
    zero, half, one = (np.float32(number) for number in (0, 0.5, 1))
    numbers = np.uint64(4 if boxes else 2)  # of a reference
    share = np.float32(0.5 / points)  # of a box's size, that an offset of 1 is

    @njit(nogil=True, fastmath={"contract", "nsz"}, error_model="numpy")
    def one_head(value, offsets, weights, reference, shapes, seen, heads, head):  # type: ignore[no-untyped-def]
        heads, head = np.uint64(heads), np.uint64(head)
        cells, queries = np.uint64(value.size) // (heads * D), np.uint64(weights.size) // (heads * N)
        table = np.empty(cells * D, np.float32)
        for cell in range(cells):
            for c in range(D):
                table[cell * D + c] = value[(cell * heads + head) * D + c]

        height, width = np.empty(samples, np.float32), np.empty(samples, np.float32)
        first = np.empty(samples, np.float32)  # cell of a sample's level
        total = 0
        for level in range(levels):
            for i in range(level * points, (level + 1) * points):
                height[i], width[i], first[i] = shapes[2 * level], shapes[2 * level + 1], total
            total += shapes[2 * level] * shapes[2 * level + 1]
        # where an offset begins, in 0..1 of the map, and how many cells an offset of 1 is
        x_from, y_from = np.empty(samples, np.float32), np.empty(samples, np.float32)
        x_unit, y_unit = np.ones(samples, np.float32), np.ones(samples, np.float32)
        rows, shares = np.empty((4, samples), np.int32), np.empty((4, samples), np.float32)
        sums = np.empty(dim, np.float32)

        for query in range(queries):
            for level in range(L):
                at = (query * L + level) * numbers
                for i in range(level * P, (level + np.uint64(1)) * P):
                    x_from[i], y_from[i] = reference[at], reference[at + np.uint64(1)]
                    if boxes:
                        x_unit[i] = reference[at + np.uint64(2)] * width[i] * share
                        y_unit[i] = reference[at + np.uint64(3)] * height[i] * share
            at = (query * heads + head) * N
            for i in range(N):
                w, h, weight = width[i], height[i], weights[at + i]
                dx, dy = offsets[np.uint64(2) * (at + i)], offsets[np.uint64(2) * (at + i) + np.uint64(1)]
                x = x_from[i] * w + dx * x_unit[i] - half  # in cells
                y = y_from[i] * h + dy * y_unit[i] - half
                # at most one outside, as is what is no number; corners outside count nothing
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
                seen[at + c] = sums[c]

    with contextlib.suppress(RuntimeError):
        one_head.enable_caching()
    return one_head
