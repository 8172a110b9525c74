"""Mask tubes of one video, proved whole, and how far they overlap.

Everything that is measured of predictions and truth comes from three arrays made here: the area of each
prediction in each frame, the area of each true track, and the area that each pair shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ookd.data import rle
from ookd.data.runs import ColumnRuns, runs_of
from ookd.evaluation.placed import Placed
from ookd.structures import Rle


@dataclass(slots=True)
class Tubes:
    """N tracks in one video of T frames."""

    area: NDArray[np.int64]  # [N, T] pixels, 0 where not seen
    listed: NDArray[np.bool_]  # [N, T] False past the end of a list that is too short
    size: NDArray[np.int64]  # [N, T, 2] height and width, 0 where there is no mask
    runs: ColumnRuns  # of N x T masks, none where not seen

    def __len__(self) -> int:
        return len(self.area)

    def placed(self, width: int) -> Placed:
        """The runs of all masks, in frames of this width."""
        frame = np.tile(np.arange(self.area.shape[1]), len(self))
        place = np.repeat(frame * width, np.diff(self.runs.bounds)) + self.runs.column
        return Placed(place, self.runs.top, self.runs.bottom)


@dataclass(slots=True)
class Overlap:
    """How D predictions and G true tracks of one video overlap."""

    result_area: NDArray[np.int64]  # [D, T]
    truth_area: NDArray[np.int64]  # [G, T]
    shared: NDArray[np.int64]  # [D, G, T]
    track_iou: NDArray[np.float64]  # [D, G] shared over united pixels of all frames together

    def frame_iou(self) -> NDArray[np.float64]:
        """[D, G, T] intersection over union in each frame, 0 where nothing is seen."""
        union = self.result_area[:, None] + self.truth_area[None] - self.shared
        return ratio(self.shared, union)


def ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """part / whole of pixel counts, 0 where the whole is 0."""
    result: NDArray[np.float64] = part / np.maximum(whole, 1)
    return result


def prove(
    tracks: Sequence[Sequence[Any]], frames: int, height: int, width: int, any_size: bool = False
) -> tuple[Tubes, dict[int, str]]:
    """Check and measure the masks of each track: the tracks without a fault, and the faults by track.

    `any_size` lets masks differ from the frame and lists from its length, as the official program does.
    """
    faults: dict[int, str] = {}
    tubes: dict[int, list[Rle | None]] = {}
    for n, track in enumerate(tracks):
        tube, fault = _shaped(track, height, width, any_size)
        if fault is None and len(track) != frames and not any_size:
            fault = f"{len(track)} segmentations for a video of {frames} frames"
        if fault is None:
            tubes[n] = tube
        else:
            faults[n] = fault
    try:
        return _measured(list(tubes.values()), frames), faults
    except rle.RleError:
        faults |= {n: fault for n, tube in tubes.items() if (fault := _first_bad(tube)) is not None}
        return _measured([tube for n, tube in tubes.items() if n not in faults], frames), faults


def _shaped(
    track: Sequence[Any], height: int, width: int, any_size: bool
) -> tuple[list[Rle | None], str | None]:
    """The track with every mask as compressed counts, or what is wrong with it."""
    size = [height, width]
    if _plain(track, size):
        return list(track), None
    tube: list[Rle | None] = []
    for t, mask in enumerate(track):
        try:
            own = _own_size(mask, size) if any_size else size
            tube.append(None if mask is None else rle.from_any(mask, *own))
        except rle.RleError as error:
            return [], f"frame {t}: {error}"
    return tube, None


def _plain(track: Sequence[Any], size: list[int]) -> bool:
    """Whether all masks are compressed counts of the frame's size, as nearly always."""
    there = [mask for mask in track if mask is not None]
    if not set(map(type, there)) <= {dict}:
        return False
    sizes = [mask.get("size") for mask in there]
    return sizes.count(size) == len(sizes) and {type(mask.get("counts")) for mask in there} <= {str}


def _own_size(mask: Any, size: list[int]) -> list[int]:
    own = mask.get("size") if isinstance(mask, dict) else None
    good = isinstance(own, list) and len(own) == 2 and all(type(side) is int and side > 0 for side in own)
    return own if good and own is not None else size


def _first_bad(tube: list[Rle | None]) -> str | None:
    for t, mask in enumerate(tube):
        if mask is not None:
            try:
                rle.check(mask, *mask["size"])
            except rle.RleError as error:
                return f"frame {t}: {error}"
    return None


def _measured(masks: list[list[Rle | None]], frames: int) -> Tubes:
    """Areas and sizes, laid out by track and frame. Raises RleError if any mask is not whole."""
    frames = max([frames, *map(len, masks)])
    length = np.array([len(tube) for tube in masks], np.int64)
    listed = np.arange(frames) < length[:, None]
    there = np.zeros((len(masks), frames), np.bool_)
    every = list(chain.from_iterable(masks))
    there[listed] = [mask is not None for mask in every]
    whole = [mask for mask in every if mask is not None]
    sides = chain.from_iterable(mask["size"] for mask in whole)
    sizes = np.fromiter(sides, np.int64, 2 * len(whole)).reshape(-1, 2)
    runs = runs_of([mask["counts"] for mask in whole], sizes.prod(1)).columns(sizes[:, 0])
    size = np.zeros((len(masks), frames, 2), np.int64)
    size[there] = sizes
    cell = np.zeros(there.size, np.int64)
    cell[there.ravel()] = np.diff(runs.bounds)
    runs = replace(runs, bounds=np.append(0, cell.cumsum()))
    return Tubes(runs.areas().reshape(there.shape), listed, size, runs)


def _shared(results: Tubes, truth: Tubes) -> NDArray[np.int64]:
    """[D, G, T] pixels in both masks: rows that runs of both have in the same place."""
    shared = np.zeros((len(truth), *results.area.shape), np.int64)
    width = max(tubes.size[..., 1].max(initial=0) for tubes in (results, truth))
    places = width * max(tubes.area.shape[1] for tubes in (results, truth))
    runs, true_runs = results.placed(width), truth.placed(width)
    seen = np.flatnonzero(results.area)
    first = results.runs.bounds[seen]
    bounds = truth.runs.bounds[:: truth.area.shape[1]].tolist()
    every = np.arange(len(runs.place))
    for g in np.flatnonzero(truth.area.any(1)).tolist():
        layers = true_runs.only(slice(bounds[g], bounds[g + 1])).layers(places)
        inside = runs.inside(next(layers))
        some = every
        for layer in layers:  # each within the places of the one before
            some = some[layer.bottom.take(runs.place[some]) > 0]
            inside[some] += runs.only(some).inside(layer)
        shared[g].ravel()[seen] = np.add.reduceat(inside, first)
    return shared.transpose(1, 0, 2)


def _unlike(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[D, G, T] whether both masks are there but of different sizes: then neither counts in that frame."""
    there = (a[:, None] > 0).all(3) & (b > 0).all(2)
    return np.asarray(there & (a[:, None] != b).any(3))


def overlap(results: Tubes, truth: Tubes) -> Overlap:
    """Compare every prediction with every true track. Frames beyond the shorter list do not count."""
    frames = min(results.area.shape[1], truth.area.shape[1])
    result_area, truth_area = results.area[:, :frames], truth.area[:, :frames]
    alone = result_area.astype(float) @ truth.listed[:, :frames].T.astype(float)  # [D, G] exact: below 2**53
    alone += results.listed[:, :frames].astype(float) @ truth_area.T.astype(float)
    shared = _shared(results, truth)[:, :, :frames]
    unlike = _unlike(results.size[:, :frames], truth.size[:, :frames])
    if unlike.any():
        shared[unlike] = 0
        alone -= ((result_area[:, None] + truth_area) * unlike).sum(2)
    inside = shared.sum(2)
    return Overlap(result_area, truth_area, shared, ratio(inside, alone - inside))
