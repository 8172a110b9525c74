"""Decode compressed run lengths in numpy, many masks at a time, and check that each fills its frame.

Sums stay in 32 bits: wider ones take several times as long, and differences are right even after a sum has
wrapped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MOST_DIGITS = 6  # 30 bits: more than any frame has pixels


class RleError(ValueError):
    """A mask that cannot be read. The message says what is wrong; the caller adds where."""


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
    """The foreground runs of N masks, in pixels of their own frame counted down the columns."""

    begin: NDArray[np.int32]  # [F]
    stop: NDArray[np.int32]  # [F]
    bounds: NDArray[np.int64]  # [N + 1] mask n has the runs bounds[n] to bounds[n + 1]

    def columns(self, height: NDArray[np.int64]) -> ColumnRuns:
        """The foreground by columns; `height` [N] is that of each frame."""
        tall = height.astype(np.int32)
        # Dividing by a single number is ten times as fast.
        tall = tall[:1] if (tall == tall[:1]).all() else np.repeat(tall, np.diff(self.bounds))
        column = self.begin // tall
        above = column * tall
        runs = ColumnRuns(column, self.begin - above, self.stop - above, self.bounds)
        within = (runs.top < runs.bottom) & (runs.bottom <= tall)
        return runs if within.all() else _split(runs, tall)


def _split(runs: ColumnRuns, tall: NDArray[np.int32]) -> ColumnRuns:
    """Split runs at the ends of columns, and drop those of length 0."""
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
    """Decode compressed counts and check that each fills its frame of `pixels` exactly.

    Raises RleError for the first fault found; to learn which mask has it, decode one at a time.
    """
    if not counts:
        nothing = np.zeros(0, np.int32)
        return Runs(nothing, nothing, np.zeros(1, np.int64))
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
    return _checked_runs(value, np.append(0, after), pixels)


def _add_low_digits(value: NDArray[np.int32], code: NDArray[np.uint8], more: NDArray[np.int64]) -> None:
    """Add the lower digits of numbers with several digits; `value` holds the highest so far."""
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


def _checked_runs(
    value: NDArray[np.int32], start: NDArray[np.int64], pixels: int | NDArray[np.int64]
) -> Runs:
    """Turn numbers into runs; mask n has the numbers start[n] to start[n + 1].

    Background comes first, then both alternate. A number is the length of a run or, from the fourth on, its
    difference to the run before last. So lengths are sums over every second number, from the second of a mask
    (foreground) or the third (background).
    """
    count = np.diff(start)  # [N]
    bounds = np.append(0, (count // 2).cumsum())
    some = np.flatnonzero(count > 1)  # masks with foreground
    first = bounds[some]
    index = np.arange(0, 2 * bounds[-1], 2)  # background before each foreground run
    index += np.repeat(start[:-1] - 2 * bounds[:-1], count // 2)
    run = _sums(value[1:].take(index), first)
    gap = value.take(index)
    leading, gap[first] = gap[first], 0
    gap = _sums(gap, first)
    rest = np.where(count % 2, value[start[1:] - 1], 0)  # [N] background behind the last foreground
    rest[some] += np.where(count[some] % 2, gap[bounds[some + 1] - 1], 0)
    gap[first] = leading
    if min(run.min(initial=0), gap.min(initial=0), rest.min()) < 0:
        raise RleError("counts hold a negative run")

    reach = np.add.reduceat(run, first, dtype=np.int64) + np.add.reduceat(gap, first, dtype=np.int64)
    total = rest.astype(np.int64)
    total[some] += reach
    if (total != pixels).any():
        raise RleError("runs do not add up to the frame's height x width")
    step = gap + run
    step[first[1:]] -= reach[:-1]
    stop = step.cumsum(dtype=np.int32)
    return Runs(stop - run, stop, bounds)


def _sums(values: NDArray[np.int32], first: NDArray[np.int64]) -> NDArray[np.int32]:
    """Running sums that restart at each of the indices `first`. They wrap at 32 bits, as they do in C."""
    values[first[1:]] -= np.add.reduceat(values, first, dtype=np.int32)[:-1]
    return values.cumsum(dtype=np.int32)
