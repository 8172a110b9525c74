"""Masks as COCO run lengths: read from anything, checked before use, decoded and encoded.

A mask is stored column by column as alternating lengths of background and foreground. The compressed form
writes each length (from the fourth on: its difference to the length before the last) as base-32 digits,
lowest first, one printable character a digit. Strings come from files that others wrote, and pycocotools
trusts them: a truncated string makes it read past its end. So every string is decoded here, in numpy, many
masks at a time, and only masks proved whole are handed to pycocotools.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from ookd.structures import Rle

_MOST_DIGITS = 6  # 30 bits: more than any frame has pixels
_FARTHEST = 100_000  # pixels; a polygon's edges are walked point by point


class RleError(ValueError):
    """A mask that cannot be read: what is wrong with it, without the place, which the caller knows."""


@dataclass(frozen=True, slots=True)
class Runs:
    """The run lengths of N masks, end to end; in each mask background comes first."""

    lengths: NDArray[np.int32]  # [R]
    start: NDArray[np.int64]  # [N] index of a mask's first run
    pixels: NDArray[np.int64]  # [N] of the frame, which the runs fill

    def foreground(self) -> NDArray[np.bool_]:
        """[R]"""
        odd = np.arange(len(self.lengths)) % 2 == 1
        return np.asarray(odd ^ np.repeat(self.start % 2 == 1, np.diff(self.start, append=len(odd))))

    def areas(self) -> NDArray[np.int64]:
        """[N] foreground pixels."""
        if not len(self.start):
            return self.pixels
        odd = self.lengths.copy()
        odd[::2] = 0
        in_odd = np.add.reduceat(odd, self.start, dtype=np.int64)
        return np.where(self.start % 2 == 0, in_odd, self.pixels - in_odd)


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


def check(rle: Any, height: int, width: int) -> None:
    """Raise RleError unless `rle` is a whole compressed mask of this height and width."""
    _runs(_compressed(rle, height, width))


def from_any(segmentation: Any, height: int, width: int) -> Rle:
    """Turn compressed counts, a list of counts, or polygons into checked compressed counts."""
    if isinstance(segmentation, dict):
        if isinstance(segmentation.get("counts"), str | bytes):
            rle = _compressed(segmentation, height, width)
            _runs(rle)
            return rle
        return _from_counts(segmentation, height, width)
    return _from_polygons(segmentation, height, width)


def decode(rle: Rle) -> NDArray[np.bool_]:
    """[H, W]"""
    return decode_many([rle]).squeeze(0)


def decode_many(rles: Sequence[Rle]) -> NDArray[np.bool_]:
    """[N, H, W]; all masks share one size."""
    if not rles:
        return np.zeros((0, 0, 0), np.bool_)
    height, width = rles[0]["size"]
    for rle in rles:
        _check_size(rle, height, width)
    runs = runs_of([rle["counts"] for rle in rles], height * width)
    columns = np.repeat(runs.foreground(), runs.lengths).reshape(len(rles), width, height)
    return np.ascontiguousarray(columns.swapaxes(1, 2))


def encode(mask: NDArray[Any]) -> Rle:
    """Run lengths of [H, W]; what is not zero is foreground."""
    return encode_many(np.asarray(mask)[None])[0]


def encode_many(masks: NDArray[Any]) -> list[Rle]:
    """Run lengths of [N, H, W]."""
    if len(masks) == 0:
        return []
    columns = np.asfortranarray(np.moveaxis(np.asarray(masks).astype(bool).view(np.uint8), 0, 2))
    return [_owned(raw) for raw in coco.encode(columns)]


def area(rle: Rle) -> int:
    """Foreground pixels."""
    return int(_runs(rle).areas()[0])


def box_xywh(rle: Rle) -> list[float]:
    """The smallest box around the foreground in whole pixels; zeros where there is none."""
    height = rle["size"][0]
    runs = _runs(rle)
    stop = runs.lengths.cumsum(dtype=np.int64)
    seen = runs.foreground() & (runs.lengths > 0)
    if not seen.any():
        return [0.0, 0.0, 0.0, 0.0]
    first, last = stop[seen] - runs.lengths[seen], stop[seen] - 1
    left, right = first // height, last // height
    crosses = bool((left != right).any())  # a run over a column's end touches bottom and top
    top = 0 if crosses else (first % height).min()
    bottom = height - 1 if crosses else (last % height).max()
    return [
        float(left.min()),
        float(top),
        float(right.max() - left.min() + 1),
        float(bottom - top + 1),
    ]


def _runs(rle: Rle) -> Runs:
    height, width = rle["size"]
    return runs_of([rle["counts"]], height * width)


def _compressed(rle: Any, height: int, width: int) -> Rle:
    if not isinstance(rle, dict):
        raise RleError(f"a mask is an object with size and counts, not {type(rle).__name__}")
    _check_size(rle, height, width)
    counts = rle.get("counts")
    if isinstance(counts, bytes):
        counts = counts.decode("latin-1")
    if not isinstance(counts, str):
        raise RleError("compressed counts are a string")
    return {"size": [height, width], "counts": counts}


def _check_size(rle: Mapping[str, Any], height: int, width: int) -> None:
    size = rle.get("size")
    if not isinstance(size, list | tuple) or len(size) != 2 or not all(map(_is_whole, size)):
        raise RleError(f"size is two whole numbers [height, width], not {size!r:.60}")
    if list(size) != [height, width]:
        raise RleError(f"size is {list(size)}, the frame is {[height, width]}")


def _from_counts(segmentation: dict[str, Any], height: int, width: int) -> Rle:
    _check_size(segmentation, height, width)
    counts = segmentation.get("counts")
    if not isinstance(counts, list | tuple) or not counts:
        raise RleError("counts are a string or a list of run lengths")
    if any(not _is_whole(run) or run < 0 for run in counts):
        raise RleError("a run length is a whole number of at least 0")
    if sum(counts) != height * width:
        raise RleError("runs do not add up to the frame's height x width")
    return _owned(
        coco.frPyObjects({"size": [height, width], "counts": list(map(int, counts))}, height, width)
    )


def _from_polygons(polygons: Any, height: int, width: int) -> Rle:
    if not isinstance(polygons, list | tuple) or not polygons:
        raise RleError(f"a segmentation is run lengths or a list of polygons, not {polygons!r:.60}")
    for polygon in polygons:
        if not isinstance(polygon, list | tuple) or len(polygon) < 6 or len(polygon) % 2:
            raise RleError("a polygon is a list x, y, x, y, ... of at least three points")
        if not all(_is_number(value) and abs(value) <= _FARTHEST for value in polygon):
            raise RleError(f"a polygon's coordinates are numbers within {_FARTHEST} pixels")
    parts = coco.frPyObjects([list(map(float, polygon)) for polygon in polygons], height, width)
    return _owned(coco.merge(parts))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, float | np.floating) or _is_whole(value)


def _owned(raw: dict[str, Any]) -> Rle:
    height, width = raw["size"]
    return {"size": [int(height), int(width)], "counts": raw["counts"].decode("ascii")}
