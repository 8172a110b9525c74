"""Mask tubes of one video, proved whole, and how far they overlap.

Everything that is measured of predictions and truth comes from three arrays made here: the area of each
prediction in each frame, the area of each true track, and the area that each pair shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from ookd.data import rle
from ookd.structures import Rle


@dataclass(slots=True)
class Tubes:
    """The masks of N tracks in one video of T frames."""

    masks: list[list[Rle | None]]  # N x T
    area: NDArray[np.int64]  # [N, T] pixels, 0 where not seen
    listed: NDArray[np.bool_]  # [N, T] False past the end of a list that is too short
    size: NDArray[np.int64]  # [N, T, 2] height and width, 0 where there is no mask

    def __len__(self) -> int:
        return len(self.masks)


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
    """Check and measure the masks of each track; a track with a fault is left empty and its fault told.

    `any_size` lets masks differ from the frame and lists from its length, as the official program does.
    """
    faults: dict[int, str] = {}
    masks: list[list[Rle | None]] = []
    for n, track in enumerate(tracks):
        tube, fault = _shaped(track, height, width, any_size)
        if fault is None and len(track) != frames and not any_size:
            fault = f"{len(track)} segmentations for a video of {frames} frames"
        if fault is not None:
            faults[n] = fault
        masks.append([] if fault is not None else tube)
    try:
        return _measured(masks, frames), faults
    except rle.RleError:
        for n, tube in enumerate(masks):
            if (fault := _first_bad(tube)) is not None:
                faults[n] = fault
                masks[n] = []
        return _measured(masks, frames), faults


def _shaped(
    track: Sequence[Any], height: int, width: int, any_size: bool
) -> tuple[list[Rle | None], str | None]:
    """The track with every mask as compressed counts, or what is wrong with it."""
    size = [height, width]
    tube: list[Rle | None] = []
    for t, mask in enumerate(track):
        if mask is None:
            tube.append(None)
        elif type(mask) is dict and mask.get("size") == size and type(mask.get("counts")) is str:
            tube.append({"size": size, "counts": mask["counts"]})
        else:
            try:
                tube.append(rle.from_any(mask, *(_own_size(mask, size) if any_size else size)))
            except rle.RleError as error:
                return [], f"frame {t}: {error}"
    return tube, None


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
    there[listed] = [mask is not None for tube in masks for mask in tube]
    whole = [mask for tube in masks for mask in tube if mask is not None]
    sizes = np.array([mask["size"] for mask in whole], np.int64).reshape(-1, 2)
    area = np.zeros((len(masks), frames), np.int64)
    area[there] = rle.runs_of([mask["counts"] for mask in whole], sizes.prod(1)).areas()
    size = np.zeros((len(masks), frames, 2), np.int64)
    size[there] = sizes
    return Tubes(masks, area, listed, size)


def _unlike(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[D, G, T] whether both masks are there but of different sizes: then neither counts in that frame."""
    there = (a[:, None] > 0).all(3) & (b > 0).all(2)
    return np.asarray(there & (a[:, None] != b).any(3))


def overlap(results: Tubes, truth: Tubes) -> Overlap:
    """Compare every prediction with every true track. Frames beyond the shorter list do not count."""
    frames = min(results.area.shape[1], truth.area.shape[1])
    result_area, truth_area = results.area[:, :frames], truth.area[:, :frames]
    shared = np.zeros((len(results), len(truth), frames), np.int64)
    unlike = _unlike(results.size[:, :frames], truth.size[:, :frames])
    alone = result_area.astype(float) @ truth.listed[:, :frames].T.astype(float)  # [D, G] exact: below 2**53
    alone += results.listed[:, :frames].astype(float) @ truth_area.T.astype(float)
    for t in np.flatnonzero(result_area.any(0) & truth_area.any(0)).tolist():
        d, g = result_area[:, t].nonzero()[0], truth_area[:, t].nonzero()[0]
        iou = coco.iou([results.masks[i][t] for i in d], [truth.masks[i][t] for i in g], [0] * len(g))
        iou = np.maximum(iou, 0)  # -1: of different sizes
        both = result_area[d, t][:, None] + truth_area[g, t]
        shared[d[:, None], g, t] = np.rint(iou * both / (1 + iou)).astype(np.int64)
    if unlike.any():
        shared[unlike] = 0
        alone -= ((result_area[:, None] + truth_area) * unlike).sum(2)
    inside = shared.sum(2)
    return Overlap(result_area, truth_area, shared, ratio(inside, alone - inside))
