"""What each cause of error costs: the AP that mending it alone would add (`blame` defines the causes)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ookd.evaluation.ap import IOU_THRESHOLDS, RECALL_THRESHOLDS
from ookd.evaluation.blame import ABSENT, CAUSES, MISSED, UNBLAMED, Page
from ookd.evaluation.video import Measured


@dataclass(slots=True)
class Ledger:
    """All predictions and a place for each true track, by falling score, with causes at T thresholds."""

    label: NDArray[np.int64]  # [N]
    video: NDArray[np.int64]  # [N] index of the video
    cause: NDArray[np.int8]  # [T, N]
    mended_label: NDArray[np.int32]  # [T, N] the class once mended
    mended_right: NDArray[np.bool_]  # [T, N] right once mended; otherwise it goes

    def entries(self, t: int, mend: int | None = None) -> Entries:
        """What counts at a threshold, as it is or with one cause mended."""
        cause = self.cause[t]
        mended = cause == mend
        keep = np.where(mended, self.mended_right[t], (cause != ABSENT) & (cause != MISSED))
        label = np.where(mended, self.mended_label[t], self.label)
        right = np.where(mended, self.mended_right[t], cause == UNBLAMED)
        return Entries(label[keep], self.video[keep], right[keep])

    def touched(self, t: int, cause: int, classes: int) -> NDArray[np.bool_]:
        """[K] classes that mending a cause gives or takes predictions."""
        mended = self.cause[t] == cause
        touched = np.zeros(classes, np.bool_)
        touched[self.label[mended]] = touched[self.mended_label[t, mended]] = True
        return touched


@dataclass(frozen=True, slots=True)
class Entries:
    """Predictions by falling score, right or wrong."""

    label: NDArray[np.int64]  # [n]
    video: NDArray[np.int64]  # [n] index of the video
    right: NDArray[np.bool_]  # [n]

    def by_class(self, classes: int) -> list[NDArray[np.int64]]:
        """Each class's entries."""
        label = self.label.astype(np.min_scalar_type(classes))  # narrow numbers sort by counting
        return np.split(np.argsort(label, kind="stable"), np.bincount(label, minlength=classes).cumsum()[:-1])


def truths_by_video(videos: Sequence[Measured], classes: int) -> NDArray[np.int64]:
    """[V, K] true tracks that count."""
    tracks = [np.bincount(v.truth_label[~v.crowd], minlength=classes) for v in videos]
    return np.stack(tracks) if tracks else np.zeros((0, classes), np.int64)


def class_ap(
    entries: Entries,
    truths: NDArray[np.int64],  # [V, K]
    weights: NDArray[np.int64],  # [R, V] how often each video counts, in R resamplings
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
    """[R, h] how many recall thresholds are reached by the found ones, compared as the official program does.

    Few counts occur, so each total's are looked up once.
    """
    totals = np.bincount(total).nonzero()[0]  # those that occur
    recall = np.arange(found.max(initial=0) + 1) / np.maximum(totals, 1)[:, None]
    row = totals.searchsorted(total)
    return RECALL_THRESHOLDS.searchsorted(recall, side="right")[row[:, None], found]


def _gains(total: int) -> NDArray[np.int64]:
    """[G] how many recall thresholds each further one found reaches."""
    recall = np.arange(1, total + 1) / max(total, 1)
    return np.diff(RECALL_THRESHOLDS.searchsorted(recall, side="right"), prepend=0)


def _plain_ap(
    entries: Entries,
    gains: Sequence[NDArray[np.int64]],  # [K]
    touched: NDArray[np.bool_],  # [K]
    otherwise: NDArray[np.float64],  # [K] AP of the classes that are not touched
) -> NDArray[np.float64]:
    """[K] `class_ap` of the videos as they are, to the same bits in a fraction of the time."""
    result = otherwise.copy()
    by_class = entries.by_class(len(gains))
    for k in touched.nonzero()[0].tolist():
        if len(gains[k]):
            seen = entries.right[by_class[k]].nonzero()[0] + 1  # up to each right one
            precision = np.arange(1, len(seen) + 1) / seen
            best = np.maximum.accumulate(precision[::-1])[::-1]
            result[k] = (best * gains[k][: len(seen)]).sum() / len(RECALL_THRESHOLDS)
    return result


def prices(videos: Sequence[Measured], classes: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """[1 + C, T, K] AP as it is and with each cause mended, and [C, T] how often each cause occurs."""
    gains = [_gains(total) for total in truths_by_video(videos, classes).sum(0).tolist()]
    book = ledger(videos)
    thresholds = range(len(IOU_THRESHOLDS))
    nothing = np.full(classes, np.nan)
    as_is = [_plain_ap(book.entries(t), gains, np.ones(classes, np.bool_), nothing) for t in thresholds]
    ap = [as_is]
    for cause in range(len(CAUSES)):
        touched = [book.touched(t, cause, classes) for t in thresholds]
        ap.append([_plain_ap(book.entries(t, cause), gains, touched[t], as_is[t]) for t in thresholds])
    counts = [(book.cause == cause).sum(1) for cause in range(len(CAUSES))]
    return np.array(ap), np.array(counts)


def ledger(videos: Sequence[Measured]) -> Ledger:
    """Every video's predictions and true tracks; among equal scores the order of videos stays."""
    pages = [video.page for video in videos] or [Page.empty()]
    lengths = [len(page.score) for page in pages]
    order = np.argsort(-np.concatenate([page.score for page in pages]), kind="stable")
    return Ledger(
        np.concatenate([page.label for page in pages])[order],
        np.repeat(np.arange(len(pages)), lengths)[order],
        np.concatenate([page.cause for page in pages], 1)[:, order],
        np.concatenate([page.mended_label for page in pages], 1)[:, order],
        np.concatenate([page.mended_right for page in pages], 1)[:, order],
    )
