"""Masks as COCO run lengths: read from anything, checked before use, decoded and encoded.

A mask is stored column by column as alternating lengths of background and foreground. The compressed form
writes each length (from the fourth on: its difference to the length before the last) as base-32 digits,
lowest first, one printable character a digit. Strings come from files that others wrote, and pycocotools
trusts them: a truncated string makes it read past its end. So `ookd.data.runs` decodes every string, and only
masks proved whole are handed to pycocotools.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from ookd.data.runs import ColumnRuns, runs_of
from ookd.data.runs import RleError as RleError
from ookd.structures import Rle

_FARTHEST = 100_000  # pixels; a polygon's edges are walked point by point


def check(rle: Any, height: int, width: int) -> None:
    """Raise RleError unless `rle` is a whole compressed mask of this height and width."""
    _columns([_compressed(rle, height, width)])


def from_any(segmentation: Any, height: int, width: int) -> Rle:
    """Turn compressed counts, a list of counts, or polygons into checked compressed counts."""
    if isinstance(segmentation, dict):
        if isinstance(segmentation.get("counts"), str | bytes):
            rle = _compressed(segmentation, height, width)
            _columns([rle])
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
    shade = np.zeros(len(runs.lengths), np.bool_)
    shade[runs.foreground()[0]] = True
    columns = np.repeat(shade, runs.lengths).reshape(len(rles), width, height)
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
    return int(_columns([rle]).areas()[0])


def box_xywh(rle: Rle) -> list[float]:
    """The smallest box around the foreground in whole pixels; zeros where there is none."""
    box: list[float] = _columns([rle]).boxes_xywh()[0].astype(float).tolist()
    return box


def _columns(rles: Sequence[Rle]) -> ColumnRuns:
    size = np.array([rle["size"] for rle in rles], np.int64).reshape(-1, 2)
    return runs_of([rle["counts"] for rle in rles], size.prod(1)).columns(size[:, 0])


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
