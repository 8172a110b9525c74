"""Compressed run lengths decoded in numpy, many masks at a time, each proved to fill its frame.

Sums stay in 32 bits: widening them takes several times as long, and differences come out right even after a
sum has wrapped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MOST_DIGITS = 6  # 30 bits: more than any frame has pixels


class RleError(ValueError):
    """A mask that cannot be read: what is wrong with it, without the place, which the caller knows."""


@dataclass(frozen=True, slots=True)
class ColumnRuns:
    """The foreground of N masks cut into runs within one column, from left to right and top to bottom."""

    column: NDArray[np.int32]  # [R]
    top: NDArray[np.int32]  # [R] first row
    bottom: NDArray[np.int32]  # [R] first row below
    bounds: NDArray[np.int64]  # [N + 1] mask n has the runs bounds[n] to bounds[n + 1]

    def areas(self) -> NDArray[np.int64]:
        """[N] pixels."""
        area = np.zeros(len(self.bounds) - 1, np.int64)
        some, first = self._filled()
        area[some] = np.add.reduceat(self.bottom - self.top, first)
        return area

    def boxes_xywh(self) -> NDArray[np.int64]:
        """[N, 4] the smallest boxes around the foreground in whole pixels; zeros where there is none."""
        box = np.zeros((len(self.bounds) - 1, 4), np.int64)
        some, first = self._filled()
        last = self.bounds[some + 1] - 1
        left, right = self.column[first], self.column[last] + 1
        top, bottom = np.minimum.reduceat(self.top, first), np.maximum.reduceat(self.bottom, first)
        box[some] = np.stack([left, top, right - left, bottom - top], 1)
        return box

    def _filled(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Masks that have foreground, and the first run of each."""
        some = np.flatnonzero(np.diff(self.bounds))
        return some, self.bounds[some]


@dataclass(frozen=True, slots=True)
class Runs:
    """The run lengths of N masks, end to end; in each mask background comes first."""

    lengths: NDArray[np.int32]  # [R]
    start: NDArray[np.int64]  # [N] index of a mask's first run
    pixels: NDArray[np.int64]  # [N] of the frame, which the runs fill

    def foreground(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """[F] indices of the foreground runs, and [N + 1] where among these each mask's begin."""
        count = np.diff(self.start, append=len(self.lengths)) // 2  # [N]
        bounds = np.append(0, count.cumsum())
        index = np.arange(1, 2 * bounds[-1], 2)
        index += np.repeat(self.start - 2 * bounds[:-1], count)
        return index, bounds

    def columns(self, height: NDArray[np.int64]) -> ColumnRuns:
        """The foreground by columns; `height` [N] is that of each frame."""
        index, bounds = self.foreground()
        count = np.diff(bounds)
        tall = height.astype(np.int32)
        # Dividing by one number is ten times as fast.
        tall = tall[:1] if (tall == tall[:1]).all() else np.repeat(tall, count)
        stop = self.lengths.cumsum(dtype=np.int32).take(index)
        stop -= np.repeat((self.pixels.cumsum() - self.pixels).astype(np.int32), count)  # before the mask
        begin = stop - self.lengths.take(index)
        column = begin // tall
        runs = ColumnRuns(column, begin - column * tall, stop - column * tall, bounds)
        within = (runs.top < runs.bottom) & (runs.bottom <= tall)
        return runs if within.all() else _split(runs, tall)


def _split(runs: ColumnRuns, tall: NDArray[np.int32]) -> ColumnRuns:
    """Cut runs that go on in the next columns, and drop those of length 0."""
    pieces = np.where(runs.top < runs.bottom, -(-runs.bottom // tall), 0)  # [F]
    of = np.repeat(np.arange(len(pieces)), pieces)
    before = np.append(0, pieces.cumsum())
    nth = (np.arange(len(of)) - before[of]).astype(np.int32)
    tall = np.broadcast_to(tall, pieces.shape)[of]
    return ColumnRuns(
        runs.column[of] + nth,
        np.where(nth == 0, runs.top[of], 0),
        np.minimum(runs.bottom[of] - nth * tall, tall),
        before[runs.bounds],
    )


def runs_of(counts: Sequence[str], pixels: int | NDArray[np.int64]) -> Runs:
    """Decode compressed counts and prove that each fills its frame of `pixels` exactly.

    Raises RleError for the first fault found; which mask has it is learnt by asking one at a time.
    """
    if not counts:
        nothing = np.zeros(0, np.int64)
        return Runs(nothing.astype(np.int32), nothing, nothing)
    try:
        code = np.frombuffer("".join(counts).encode("ascii"), np.uint8) - np.uint8(48)  # [C] wraps below "0"
    except UnicodeEncodeError:
        raise RleError("counts hold a character that no run length uses") from None
    size = np.fromiter(map(len, counts), np.int64, len(counts))  # [N] characters
    if not size.all():
        raise RleError("counts are empty")
    if code.max() >= 64:
        raise RleError("counts hold a character that no run length uses")
    more = np.flatnonzero(code >= 32)  # [M] bit 5: digits follow; all others are the highest of their number
    stop = size.cumsum()  # [N]
    if (code[stop - 1] >= 32).any():
        raise RleError("counts break off within a number")
    signed = ((code ^ 16) - np.uint8(16)).view(np.int8)  # bit 4 of the highest digit is the sign
    value = signed[code < 32].astype(np.int32)  # [R]
    _add_low_digits(value, code, more)

    after = stop - np.searchsorted(more, stop)  # [N] one past a mask's last run
    start = np.concatenate([[0], after[:-1]])
    lengths = _undo_differences(value, start, after)
    if lengths.min() < 0:
        raise RleError("counts hold a negative run")
    if (np.add.reduceat(lengths, start, dtype=np.int64) != pixels).any():
        raise RleError("runs do not add up to the frame's height x width")
    return Runs(lengths, start, np.broadcast_to(pixels, start.shape))


def _add_low_digits(value: NDArray[np.int32], code: NDArray[np.uint8], more: NDArray[np.int64]) -> None:
    """Complete the few numbers of several digits; their value is so far that of the highest."""
    number = more - np.arange(len(more))  # [M] as many highest digits come before
    first = np.flatnonzero(np.diff(number, prepend=-1))  # lowest digit of each such number
    below = np.diff(first, append=len(more))  # digits below its highest
    if below.max(initial=0) >= _MOST_DIGITS:
        raise RleError("counts hold a run longer than any frame")
    place = np.arange(len(more)) - np.repeat(first, below)
    digit = (code[more] & 31).astype(np.int32) << (5 * place).astype(np.int32)
    numbers = number[first]
    value[numbers] <<= (5 * below).astype(np.int32)
    np.add.at(value, number, digit)


def _undo_differences(
    value: NDArray[np.int32], start: NDArray[np.int64], after: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Sum every second number within each mask, from its second run (odd runs) or third (even runs).

    The sums run on through all masks, one over the even places and one over the odd; what each had gathered
    before a mask is then taken off. They wrap at 32 bits, as they do in C.
    """
    lengths = np.empty_like(value)
    for parity in (0, 1):
        sums = np.append(np.int32(0), value[parity::2]).cumsum(dtype=np.int32)
        earlier = (start + 2 - parity) // 2  # [N] places of this parity up to a mask's first run
        places = (after + 1 - parity) // 2 - (start + 1 - parity) // 2  # [N] of this parity in each mask
        lengths[parity::2] = sums[1:] - np.repeat(sums[earlier], places)
    lengths[start] = value[start]
    return lengths
