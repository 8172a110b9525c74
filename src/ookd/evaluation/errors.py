"""What each cause of error costs: the AP gained by fixing it alone. `causes` defines the causes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ookd.evaluation.ap import IOU_THRESHOLDS, RECALL_THRESHOLDS
from ookd.evaluation.causes import CAUSES, CORRECT, MISSED, NOT_COUNTED, VideoErrors
from ookd.evaluation.video import MeasuredVideo


@dataclass(slots=True)
class ErrorTable:
    """All predictions, and an entry for each true track, by falling score, with causes at T thresholds."""

    label: NDArray[np.int64]  # [N]
    video: NDArray[np.int64]  # [N] index of the video
    cause: NDArray[np.int8]  # [T, N]
    fixed_label: NDArray[np.int32]  # [T, N] class once fixed
    fixed_right: NDArray[np.bool_]  # [T, N] right once fixed; otherwise removed

    def entries(self, t: int, fix: int | None = None) -> RankedPredictions:
        """What counts at a threshold, as it is or with one cause fixed."""
        cause = self.cause[t]
        fixed = cause == fix
        keep = np.where(fixed, self.fixed_right[t], (cause != NOT_COUNTED) & (cause != MISSED))
        label = np.where(fixed, self.fixed_label[t], self.label)
        right = np.where(fixed, self.fixed_right[t], cause == CORRECT)
        return RankedPredictions(label[keep], self.video[keep], right[keep])

    def affected(self, t: int, cause: int, classes: int) -> NDArray[np.bool_]:
        """[K] the classes that gain or lose predictions when a cause is fixed."""
        fixed = self.cause[t] == cause
        affected = np.zeros(classes, np.bool_)
        affected[self.label[fixed]] = affected[self.fixed_label[t, fixed]] = True
        return affected


@dataclass(frozen=True, slots=True)
class RankedPredictions:
    """Predictions by falling score, right or wrong."""

    label: NDArray[np.int64]  # [n]
    video: NDArray[np.int64]  # [n] index of the video
    right: NDArray[np.bool_]  # [n]

    def by_class(self, classes: int) -> list[NDArray[np.int64]]:
        """The indices of each class's entries."""
        label = self.label.astype(np.min_scalar_type(classes))  # narrow integers sort faster
        return np.split(np.argsort(label, kind="stable"), np.bincount(label, minlength=classes).cumsum()[:-1])


def truths_by_video(videos: Sequence[MeasuredVideo], classes: int) -> NDArray[np.int64]:
    """[V, K] true tracks that count."""
    tracks = [np.bincount(v.truth_label[~v.crowd], minlength=classes) for v in videos]
    return np.stack(tracks) if tracks else np.zeros((0, classes), np.int64)


def class_ap(
    entries: RankedPredictions,
    truths: NDArray[np.int64],  # [V, K]
    weights: NDArray[np.int64],  # [R, V] how often each video counts in each of R resamplings
) -> NDArray[np.float64]:
    """[R, K] AP of each class; nan where it has no truth."""
    total = weights @ truths  # [R, K]
    result = np.full(total.shape, np.nan)
    by_class = entries.by_class(truths.shape[1])
    for k in np.flatnonzero(truths.any(0)):
        mine = by_class[k]
        ap = _ap(weights[:, entries.video[mine]], entries.right[mine], total[:, k])
        result[:, k] = np.where(total[:, k] > 0, ap, np.nan)
    return result


def _ap(
    weight: NDArray[np.int64],  # [R, n]
    right: NDArray[np.bool_],  # [n]
    total: NDArray[np.int64],  # [R]
) -> NDArray[np.float64]:
    """[R] mean over the recall thresholds of the best precision at that recall or beyond."""
    hits = np.flatnonzero(right)
    found = weight[:, hits].cumsum(1)  # [R, h]
    precision = found / np.maximum(weight.cumsum(1)[:, hits], 1)
    best = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
    steps = _recalls_reached(total, found)
    steps[:, 1:] -= steps[:, :-1].copy()
    return np.asarray((best * steps).sum(1) / len(RECALL_THRESHOLDS))


def _recalls_reached(total: NDArray[np.int64], found: NDArray[np.int64]) -> NDArray[np.int64]:
    """[R, h] how many recall thresholds the found tracks reach, compared as in the official program.

    Only few totals occur, so each one's thresholds are looked up once.
    """
    totals = np.bincount(total).nonzero()[0]  # those that occur
    recall = np.arange(found.max(initial=0) + 1) / np.maximum(totals, 1)[:, None]
    row = totals.searchsorted(total)
    return RECALL_THRESHOLDS.searchsorted(recall, side="right")[row[:, None], found]


def _gains(total: int) -> NDArray[np.int64]:
    """[G] how many more recall thresholds each further track found reaches."""
    recall = np.arange(1, total + 1) / max(total, 1)
    return np.diff(RECALL_THRESHOLDS.searchsorted(recall, side="right"), prepend=0)


def _plain_ap(
    entries: RankedPredictions,
    gains: Sequence[NDArray[np.int64]],  # [K]
    affected: NDArray[np.bool_],  # [K]
    otherwise: NDArray[np.float64],  # [K] AP of the classes that are not affected
) -> NDArray[np.float64]:
    """[K] `class_ap` with every video counted once: the same bits, in a fraction of the time."""
    result = otherwise.copy()
    by_class = entries.by_class(len(gains))
    for k in affected.nonzero()[0].tolist():
        if len(gains[k]):
            seen = entries.right[by_class[k]].nonzero()[0] + 1  # predictions up to each right one
            precision = np.arange(1, len(seen) + 1) / seen
            best = np.maximum.accumulate(precision[::-1])[::-1]
            result[k] = (best * gains[k][: len(seen)]).sum() / len(RECALL_THRESHOLDS)
    return result


def ap_gains(videos: Sequence[MeasuredVideo], classes: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """[1 + C, T, K] AP as it is and with each cause fixed; [C, T] how often each cause occurs."""
    gains = [_gains(total) for total in truths_by_video(videos, classes).sum(0).tolist()]
    table = error_table(videos)
    thresholds = range(len(IOU_THRESHOLDS))
    nothing = np.full(classes, np.nan)
    as_is = [_plain_ap(table.entries(t), gains, np.ones(classes, np.bool_), nothing) for t in thresholds]
    ap = [as_is]
    for cause in range(len(CAUSES)):
        affected = [table.affected(t, cause, classes) for t in thresholds]
        ap.append([_plain_ap(table.entries(t, cause), gains, affected[t], as_is[t]) for t in thresholds])
    counts = [(table.cause == cause).sum(1) for cause in range(len(CAUSES))]
    return np.array(ap), np.array(counts)


def error_table(videos: Sequence[MeasuredVideo]) -> ErrorTable:
    """The predictions and true tracks of all videos. Equal scores stay in the order of the videos."""
    parts = [video.errors for video in videos] or [VideoErrors.empty()]
    lengths = [len(part.score) for part in parts]
    order = np.argsort(-np.concatenate([part.score for part in parts]), kind="stable")
    return ErrorTable(
        np.concatenate([part.label for part in parts])[order],
        np.repeat(np.arange(len(parts)), lengths)[order],
        np.concatenate([part.cause for part in parts], 1)[:, order],
        np.concatenate([part.fixed_label for part in parts], 1)[:, order],
        np.concatenate([part.fixed_right for part in parts], 1)[:, order],
    )
