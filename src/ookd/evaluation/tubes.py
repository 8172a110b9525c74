"""Mask tubes: the masks of whole tracks in one video, checked, measured and compared.

Every measure of tracks is derived from three arrays made here: the area of each prediction in each frame, the
area of each true track in each frame, and the area that each pair shares in each frame.

Masks are compared as run lengths. A mask has few runs in a column, mostly one. So a true track becomes layers
with at most one run per column, and every run of every prediction looks up what lies in its column, in all
frames at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ookd import limits
from ookd.data import rle
from ookd.data.runs import ColumnRuns, runs_of
from ookd.structures import Rle


@dataclass(slots=True)
class MaskTubes:
    """N tracks in one video of T frames."""

    area: NDArray[np.int64]  # [N, T] pixels, 0 where the track is not seen
    listed: NDArray[np.bool_]  # [N, T] False past the end of a list that is too short
    size: NDArray[np.int64]  # [N, T, 2] height and width, 0 where there is no mask
    runs: ColumnRuns  # of N x T masks; no runs where the track is not seen

    def __len__(self) -> int:
        return len(self.area)

    def spans(self, width: int) -> ColumnSpans:
        """The runs of all masks, in frames of this width."""
        frame = np.tile(np.arange(self.area.shape[1]), len(self))
        column = np.repeat(frame * width, np.diff(self.runs.bounds)) + self.runs.column
        return ColumnSpans(column, self.runs.top, self.runs.bottom)


@dataclass(frozen=True, slots=True)
class ColumnSpans:
    """Runs of masks. Columns are counted through all frames of the video."""

    column: NDArray[np.int64]  # [R]
    top: NDArray[np.int32]  # [R] first row
    bottom: NDArray[np.int32]  # [R] end: the row below the last one

    def pick(self, which: slice | NDArray[Any]) -> ColumnSpans:
        return ColumnSpans(self.column[which], self.top[which], self.bottom[which])

    def layers(self, columns: int) -> Iterator[SpanLayer]:
        """One track's first run in each column, then its second run in each, and so on."""
        spans = self
        while len(spans.column):
            further = np.diff(spans.column, prepend=-1) == 0  # not the first in its column
            first = spans.pick(~further)
            layer = SpanLayer(np.zeros(columns, np.int32), np.zeros(columns, np.int32))
            layer.top[first.column], layer.bottom[first.column] = first.top, first.bottom
            yield layer
            spans = spans.pick(further)

    def overlap(self, layer: SpanLayer) -> NDArray[np.int32]:
        """[R] how many rows of each run lie in the layer."""
        rows = np.minimum(layer.bottom.take(self.column), self.bottom)
        rows -= np.maximum(layer.top.take(self.column), self.top)
        return np.maximum(rows, 0, out=rows)


@dataclass(frozen=True, slots=True)
class SpanLayer:
    """At most one run of a track in each column; from 0 to 0 where there is none."""

    top: NDArray[np.int32]  # [columns]
    bottom: NDArray[np.int32]  # [columns]


@dataclass(slots=True)
class Overlap:
    """How D predictions and G true tracks of one video overlap."""

    result_area: NDArray[np.int64]  # [D, T]
    truth_area: NDArray[np.int64]  # [G, T]
    shared: NDArray[np.int64]  # [D, G, T]
    track_iou: NDArray[np.float64]  # [D, G] intersection of all frames over union of all frames

    def frame_iou(self) -> NDArray[np.float64]:
        """[D, G, T] intersection over union in each frame, 0 where neither is seen."""
        union = self.result_area[:, None] + self.truth_area[None] - self.shared
        return ratio(self.shared, union)


def ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """part / whole of pixel counts, 0 where the whole is 0."""
    result: NDArray[np.float64] = part / np.maximum(whole, 1)
    return result


def measure_tubes(
    tracks: Sequence[Sequence[Any]], frames: int, height: int, width: int, any_size: bool = False
) -> tuple[MaskTubes, dict[int, str]]:
    """Check and measure the masks of each track. Returns the valid tracks, and what is wrong with the others.

    With `any_size`, masks may differ in size from the frame and lists in length from the video, as the
    official program allows.
    """
    faults: dict[int, str] = {}
    tubes: dict[int, list[Rle | None]] = {}
    for n, track in enumerate(tracks):
        tube, fault = _compressed(track, height, width, any_size)
        if fault is None and len(track) != frames and not any_size:
            fault = f"{len(track)} segmentations for a video of {frames} frames"
        if fault is None:
            tubes[n] = tube
        else:
            faults[n] = fault
    try:
        return _measured(list(tubes.values()), frames), faults
    except rle.RleError:
        faults |= {n: fault for n, tube in tubes.items() if (fault := _first_damaged(tube)) is not None}
        return _measured([tube for n, tube in tubes.items() if n not in faults], frames), faults


def _compressed(
    track: Sequence[Any], height: int, width: int, any_size: bool
) -> tuple[list[Rle | None], str | None]:
    """The track with every mask as compressed run lengths, or what is wrong with it."""
    size = [height, width]
    if _is_compressed(track, size):
        return list(track), None
    tube: list[Rle | None] = []
    for t, mask in enumerate(track):
        try:
            own = _own_size(mask, size) if any_size else size
            tube.append(None if mask is None else rle.from_any(mask, *own))
        except rle.RleError as error:
            return [], f"frame {t}: {error}"
    return tube, None


def _is_compressed(track: Sequence[Any], size: list[int]) -> bool:
    """Whether all masks are compressed run lengths of the frame's size, as in nearly all files."""
    there = [mask for mask in track if mask is not None]
    if not set(map(type, there)) <= {dict}:
        return False
    sizes = [mask.get("size") for mask in there]
    return sizes.count(size) == len(sizes) and {type(mask.get("counts")) for mask in there} <= {str}


def _own_size(mask: Any, size: list[int]) -> list[int]:
    own = mask.get("size") if isinstance(mask, dict) else None
    good = isinstance(own, list) and len(own) == 2 and all(type(side) is int and side > 0 for side in own)
    if good and own is not None:
        fault = limits.SIDE.exceeded(max(own)) or limits.PIXELS.exceeded(own[0] * own[1])
        if fault is not None:
            raise rle.RleError(f"the mask has {fault}")
    return own if good and own is not None else size


def _first_damaged(tube: list[Rle | None]) -> str | None:
    for t, mask in enumerate(tube):
        if mask is not None:
            try:
                rle.check(mask, *mask["size"])
            except rle.RleError as error:
                return f"frame {t}: {error}"
    return None


def _measured(masks: list[list[Rle | None]], frames: int) -> MaskTubes:
    """Areas and sizes by track and frame. Raises RleError if any mask is damaged."""
    frames = max([frames, *map(len, masks)])
    length = np.array([len(tube) for tube in masks], np.int64)
    listed = np.arange(frames) < length[:, None]
    there = np.zeros((len(masks), frames), np.bool_)
    every = list(chain.from_iterable(masks))
    there[listed] = [mask is not None for mask in every]
    present = [mask for mask in every if mask is not None]
    sides = chain.from_iterable(mask["size"] for mask in present)
    sizes = np.fromiter(sides, np.int64, 2 * len(present)).reshape(-1, 2)
    runs = runs_of([mask["counts"] for mask in present], sizes.prod(1)).columns(sizes[:, 0])
    size = np.zeros((len(masks), frames, 2), np.int64)
    size[there] = sizes
    runs_in_frame = np.zeros(there.size, np.int64)
    runs_in_frame[there.ravel()] = np.diff(runs.bounds)
    runs = replace(runs, bounds=np.append(0, runs_in_frame.cumsum()))
    return MaskTubes(runs.areas().reshape(there.shape), listed, size, runs)


def _shared(results: MaskTubes, truth: MaskTubes) -> NDArray[np.int64]:
    """[D, G, T] pixels in both masks: the rows that runs of both share in each column, added up."""
    shared = np.zeros((len(truth), *results.area.shape), np.int64)
    width = max(tubes.size[..., 1].max(initial=0) for tubes in (results, truth))
    columns = width * max(tubes.area.shape[1] for tubes in (results, truth))
    spans, true_spans = results.spans(width), truth.spans(width)
    seen = np.flatnonzero(results.area)
    first = results.runs.bounds[seen]
    bounds = truth.runs.bounds[:: truth.area.shape[1]].tolist()
    every = np.arange(len(spans.column))
    for g in np.flatnonzero(truth.area.any(1)).tolist():
        layers = true_spans.pick(slice(bounds[g], bounds[g + 1])).layers(columns)
        rows = spans.overlap(next(layers))
        left = every
        for layer in layers:  # has runs only in columns where the layer before has one
            left = left[layer.bottom.take(spans.column[left]) > 0]
            rows[left] += spans.pick(left).overlap(layer)
        shared[g].ravel()[seen] = np.add.reduceat(rows, first)
    return shared.transpose(1, 0, 2)


def _sizes_differ(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[D, G, T] whether both masks are there but differ in size; then neither counts in that frame."""
    there = (a[:, None] > 0).all(3) & (b > 0).all(2)
    return np.asarray(there & (a[:, None] != b).any(3))


def overlap(results: MaskTubes, truth: MaskTubes) -> Overlap:
    """Compare every prediction with every true track. Frames past the end of the shorter list are ignored."""
    frames = min(results.area.shape[1], truth.area.shape[1])
    result_area, truth_area = results.area[:, :frames], truth.area[:, :frames]
    total = result_area.astype(float) @ truth.listed[:, :frames].T.astype(float)  # [D, G] exact: below 2**53
    total += results.listed[:, :frames].astype(float) @ truth_area.T.astype(float)
    shared = _shared(results, truth)[:, :, :frames]
    differ = _sizes_differ(results.size[:, :frames], truth.size[:, :frames])
    if differ.any():
        shared[differ] = 0
        total -= ((result_area[:, None] + truth_area) * differ).sum(2)
    intersection = shared.sum(2)
    return Overlap(result_area, truth_area, shared, ratio(intersection, total - intersection))
