"""Masks as COCO run lengths: read from any form, checked, decoded and encoded.

A mask is stored column by column as alternating lengths of background and foreground. The compressed form
writes each length (from the fourth on: its difference to the length before the last) as base-32 digits,
lowest first, one printable character a digit. A truncated string makes
pycocotools read past its end. So `ookd.data.runs` decodes and checks every string, and pycocotools sees only
lists of counts and polygons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from ookd import limits
from ookd.data.runs import ColumnRuns, runs_of
from ookd.data.runs import RleError as RleError
from ookd.errors import UserError
from ookd.structures import Rle, Track, Video

_FARTHEST = 100_000  # pixels; a polygon's edges are walked point by point


def check(rle: Any, height: int, width: int) -> None:
    """Raise RleError unless `rle` is a valid compressed mask of this height and width."""
    _columns([_compressed(rle, height, width)])


def from_any(segmentation: Any, height: int, width: int) -> Rle:
    """Turn compressed counts, a list of counts, or polygons into checked compressed counts."""
    rle = _read(segmentation, height, width)
    if isinstance(segmentation, dict):
        _columns([rle])
    return rle


def of_track(video: Video, track: Track, frame: int) -> Rle:
    """The mask of a track in a frame that shows it."""
    try:
        return from_any(track.segmentations[frame], video.height, video.width)
    except RleError as error:
        raise UserError(f"video {video.id}, frame {frame}, track {track.id}: {error}") from None


def _read(segmentation: Any, height: int, width: int) -> Rle:
    """As compressed counts; a string is not checked yet."""
    if isinstance(segmentation, dict):
        if isinstance(segmentation.get("counts"), str | bytes):
            return _compressed(segmentation, height, width)
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
    before = np.repeat(np.arange(len(rles)) * height * width, np.diff(runs.bounds))
    edges = np.stack([before + runs.begin, before + runs.stop], 1).ravel()
    lengths = np.diff(edges, prepend=0, append=len(rles) * height * width)
    columns = np.repeat(np.arange(len(lengths)) % 2 > 0, lengths).reshape(len(rles), width, height)
    return np.ascontiguousarray(columns.swapaxes(1, 2))


def encode(mask: NDArray[Any]) -> Rle:
    """Run lengths of [H, W]; nonzero pixels are foreground."""
    return encode_many(np.asarray(mask)[None])[0]


def encode_many(masks: NDArray[Any]) -> list[Rle]:
    """Run lengths of [N, H, W]. Only the columns that a mask touches are scanned."""
    masks = np.asarray(masks).astype(bool, copy=False)
    height, width = masks.shape[1:]
    encoded = []
    for mask in masks:
        x = np.flatnonzero(mask.any(0))
        first, last = (x[0], x[-1] + 1) if len(x) else (0, 0)
        strip = np.zeros((last - first) * height + 2, bool)  # these columns, with background at both ends
        strip[1:-1].reshape(-1, height)[:] = mask[:, first:last].T
        edges = np.flatnonzero(strip[1:] != strip[:-1]) + first * height
        lengths = np.diff(edges, prepend=0, append=height * width).tolist()
        if len(lengths) > 1 and not lengths[-1]:
            lengths.pop()
        encoded.append(_from_lengths(lengths, height, width))
    return encoded


def area(rle: Rle) -> int:
    """Foreground pixels."""
    return int(_columns([rle]).areas()[0])


def box_xywh(rle: Rle) -> list[float]:
    """The smallest box around the foreground in whole pixels; zeros where there is none."""
    box: list[float] = _columns([rle]).boxes_xywh()[0].astype(float).tolist()
    return box


def measure_many(
    segmentations: Sequence[Any], height: int, width: int
) -> list[tuple[int, list[float]] | RleError]:
    """Area and box of each mask, in any form that `from_any` takes, or what is wrong with it."""
    found = [_or_fault(_read, one, height, width) for one in segmentations]
    try:
        columns = _columns([rle for rle in found if isinstance(rle, dict)])
    except RleError:  # does not say which mask it is
        found = [_or_fault(from_any, one, height, width) for one in segmentations]
        columns = _columns([rle for rle in found if isinstance(rle, dict)])
    measures = zip(columns.areas().tolist(), columns.boxes_xywh().astype(float).tolist(), strict=True)
    return [next(measures) if isinstance(one, dict) else one for one in found]


def _or_fault(read: Callable[[Any, int, int], Rle], mask: Any, height: int, width: int) -> Rle | RleError:
    try:
        return read(mask, height, width)
    except RleError as error:
        return error


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
    return _from_lengths(list(map(int, counts)), height, width)


def _from_lengths(lengths: list[int], height: int, width: int) -> Rle:
    return _owned(coco.frPyObjects({"size": [height, width], "counts": lengths}, height, width))


def _from_polygons(polygons: Any, height: int, width: int) -> Rle:
    if not isinstance(polygons, list | tuple) or not polygons:
        raise RleError(f"a segmentation is run lengths or a list of polygons, not {polygons!r:.60}")
    for polygon in polygons:
        if not isinstance(polygon, list | tuple) or len(polygon) < 6 or len(polygon) % 2:
            raise RleError("a polygon is a list x, y, x, y, ... of at least three points")
        if not all(_is_number(value) and abs(value) <= _FARTHEST for value in polygon):
            raise RleError(f"a polygon's coordinates are numbers within {_FARTHEST} pixels")
    if (fault := limits.OUTLINE.exceeded(sum(map(_outline, polygons)))) is not None:
        raise RleError(fault)
    parts = coco.frPyObjects([list(map(float, polygon)) for polygon in polygons], height, width)
    return _owned(coco.merge(parts))


def _outline(polygon: Sequence[float]) -> float:
    """The length of a polygon's edges, in pixels along the longer side: the number of points drawn."""
    points = np.array(polygon, float).reshape(-1, 2)
    return float(np.abs(points - np.roll(points, 1, 0)).max(1).sum())


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, float | np.floating) or _is_whole(value)


def _owned(raw: dict[str, Any]) -> Rle:
    height, width = raw["size"]
    return {"size": [int(height), int(width)], "counts": raw["counts"].decode("ascii")}
