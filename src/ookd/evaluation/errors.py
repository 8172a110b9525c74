"""Why AP is lost: every wrong prediction and every missed track gets one cause, and each cause a price.

At each IoU threshold t a wrong prediction is, in this order,

    duplicate       IoU >= t with a track of its class that a better prediction already has
    class           IoU >= t with a track of another class
    identity        0.1 <= IoU < t with a track of its class, but its masks are good while it is on it (IoU
                    over the frames where frame IoU >= 1/2 reaches t): it switches, breaks off, starts late
    mask            0.1 <= IoU < t with a track of its class otherwise
    class_and_mask  0.1 <= IoU < t with a track of another class only
    background      none of these

and a true track without a match that no wrong prediction points at is `missed`. The price of a cause is the
AP that mending it alone would add: duplicates and background go; the others become right for the track they
point at, the best of them if it is free, and go otherwise; a missed track gets a perfect prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ookd.evaluation.ap import IOU_THRESHOLDS, MAX_DETECTIONS, RECALL_THRESHOLDS, RIGHT, WRONG
from ookd.evaluation.video import Measured

CAUSES = ("class", "duplicate", "identity", "mask", "class_and_mask", "background", "missed")
_CLASS, _DUPLICATE, _IDENTITY, _MASK, _BOTH, _BACKGROUND, _MISSED = range(7)
_RIGHT, _ABSENT = -1, -2  # no cause: right, or not counted at this threshold
_POINTING = (_CLASS, _IDENTITY, _MASK, _BOTH)
_FAINT = 0.1  # below this overlap a prediction has nothing to do with a track


@dataclass(slots=True)
class Ledger:
    """All predictions and a place for each true track, by falling score, with causes at T thresholds."""

    label: NDArray[np.int64]  # [N]
    video: NDArray[np.int64]  # [N] index of the video
    cause: NDArray[np.int8]  # [T, N]
    mended_label: NDArray[np.int64]  # [T, N] the class once mended
    mended_right: NDArray[np.bool_]  # [T, N] right once mended; otherwise it goes

    def entries(self, t: int, mend: int | None = None) -> Entries:
        """What counts at a threshold, as it is or with one cause mended."""
        cause = self.cause[t]
        mended = cause == mend
        keep = np.where(mended, self.mended_right[t], (cause != _ABSENT) & (cause != _MISSED))
        label = np.where(mended, self.mended_label[t], self.label)
        right = np.where(mended, self.mended_right[t], cause == _RIGHT)
        return Entries(label[keep], self.video[keep], right[keep])


@dataclass(frozen=True, slots=True)
class Entries:
    """Predictions by falling score, right or wrong."""

    label: NDArray[np.int64]  # [n]
    video: NDArray[np.int64]  # [n] index of the video
    right: NDArray[np.bool_]  # [n]


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
    by_class = np.argsort(entries.label, kind="stable")
    bounds = np.searchsorted(entries.label[by_class], np.arange(truths.shape[1] + 1))
    for k in np.flatnonzero(truths.any(0)):
        mine = by_class[bounds[k] : bounds[k + 1]]
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
    reached = _recalls_reached(int(total.max(initial=0)))[total[:, None], found]  # [R, h]
    return np.asarray((best * np.diff(reached, axis=1, prepend=0)).sum(1) / len(RECALL_THRESHOLDS))


_TABLES: dict[int, NDArray[np.int16]] = {}


def _recalls_reached(most: int) -> NDArray[np.int16]:
    """[N, n] how many recall thresholds n right ones of N reach."""
    if most not in _TABLES:
        size = np.arange(most + 1)
        recall = size[None] / np.maximum(size, 1)[:, None]
        _TABLES[most] = np.searchsorted(RECALL_THRESHOLDS, recall, side="right").astype(np.int16)
    return _TABLES[most]


def prices(videos: Sequence[Measured], classes: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """[1 + C, T, K] AP as it is and with each cause mended, and [C, T] how often each cause occurs."""
    truths = truths_by_video(videos, classes)
    once = np.ones((1, len(videos)), np.int64)
    book = ledger(videos)
    thresholds = range(len(IOU_THRESHOLDS))
    ap = [
        [class_ap(book.entries(t, cause), truths, once)[0] for t in thresholds]
        for cause in (None, *range(len(CAUSES)))
    ]
    counts = [(book.cause == cause).sum(1) for cause in range(len(CAUSES))]
    return np.array(ap), np.array(counts)


def ledger(videos: Sequence[Measured]) -> Ledger:
    """Every video's predictions and true tracks; among equal scores the order of videos stays."""
    pages = [_page(video, i) for i, video in enumerate(videos)] or [_Page.empty()]
    order = np.argsort(-np.concatenate([page.score for page in pages]), kind="stable")
    return Ledger(
        np.concatenate([page.label for page in pages])[order],
        np.concatenate([page.video for page in pages])[order],
        np.concatenate([page.cause for page in pages], 1)[:, order],
        np.concatenate([page.mended_label for page in pages], 1)[:, order],
        np.concatenate([page.mended_right for page in pages], 1)[:, order],
    )


@dataclass(slots=True)
class _Page:
    """One video's part of the ledger: its G true tracks, then its predictions by falling score."""

    score: NDArray[np.float64]  # [N] infinite for true tracks: a mended miss comes first
    label: NDArray[np.int64]
    video: NDArray[np.int64]
    cause: NDArray[np.int8]  # [T, N]
    mended_label: NDArray[np.int64]
    mended_right: NDArray[np.bool_]

    @staticmethod
    def empty() -> _Page:
        nothing, rows = np.zeros(0, np.int64), np.zeros((len(IOU_THRESHOLDS), 0), np.int64)
        return _Page(nothing.astype(float), nothing, nothing, rows.astype(np.int8), rows, rows > 0)


def _page(v: Measured, index: int) -> _Page:
    thresholds, tracks = len(IOU_THRESHOLDS), len(v.crowd)
    d = np.flatnonzero(v.matched.rank < MAX_DETECTIONS[-1])
    d = d[np.argsort(-v.score[d], kind="stable")]
    cause, target, mended_right = _blame(v, d)
    pointed = np.zeros((thresholds, tracks), np.bool_)
    t, n = np.nonzero(target >= 0)
    pointed[t, target[t, n]] = True
    missed = _free(v, d) & ~pointed
    own = np.broadcast_to(v.label[d], cause.shape)
    theirs = np.broadcast_to(v.truth_label, missed.shape)
    return _Page(
        np.concatenate([np.full(tracks, np.inf), v.score[d]]),
        np.concatenate([v.truth_label, v.label[d]]),
        np.full(tracks + len(d), index),
        np.concatenate([np.where(missed, _MISSED, _ABSENT).astype(np.int8), cause], 1),
        np.concatenate([theirs, np.where(target >= 0, np.append(v.truth_label, 0)[target], own)], 1),
        np.concatenate([missed, mended_right], 1),
    )


def _free(v: Measured, d: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[T, G] true tracks that count and that no prediction has."""
    free = np.repeat(~v.crowd[None], len(IOU_THRESHOLDS), 0)
    t, n = np.nonzero(v.matched.taken[0][:, d] >= 0)
    free[t, v.matched.taken[0][t, d[n]]] = False
    return free


def _blame(
    v: Measured, d: NDArray[np.int64]
) -> tuple[NDArray[np.int8], NDArray[np.int64], NDArray[np.bool_]]:
    """[T, n] cause of each prediction, the track it points at (-1: none), whether mending makes it right."""
    outcome = v.matched.outcome[0][:, d]
    cause = np.select([outcome == RIGHT, outcome == WRONG], [_RIGHT, _BACKGROUND], _ABSENT).astype(np.int8)
    target = np.full(cause.shape, -1, np.int64)
    mended_right = np.zeros(cause.shape, np.bool_)
    if not len(v.crowd):
        return cause, target, mended_right
    iou = np.where(v.crowd, 0, v.iou[d])  # [n, G]
    same = v.label[d][:, None] == v.truth_label
    free = _free(v, d)
    unclaimed = free.copy()  # nothing points at it yet
    mendable = {c: free.copy() for c in _POINTING}  # each cause is mended alone, so each may use a free track
    t = np.arange(len(IOU_THRESHOLDS))
    nothing = np.full(len(t), -1)
    for i in np.flatnonzero((outcome == WRONG).any(0) & (iou.max(1) >= _FAINT)):
        own, foreign = np.where(same[i], iou[i], 0), np.where(same[i], 0, iou[i])
        mine, other = _choose(own, unclaimed), _choose(foreign, unclaimed)
        reasons: list[tuple[Any, int, NDArray[np.int64]]] = [
            (own.max() >= IOU_THRESHOLDS, _DUPLICATE, nothing),
            (foreign.max() >= IOU_THRESHOLDS, _CLASS, other),
            ((own.max() >= _FAINT) & (v.iou_when_on[d[i], mine] >= IOU_THRESHOLDS), _IDENTITY, mine),
            (own.max() >= _FAINT, _MASK, mine),
            (foreign.max() >= _FAINT, _BOTH, other),
        ]
        wrong = outcome[:, i] == WRONG
        for applies, reason, track in reasons:
            now = wrong & applies
            cause[now, i] = reason
            target[now, i] = track[now]
            wrong &= ~now
            if reason in _POINTING:
                goal = target[now, i]
                mended_right[now, i] = mendable[reason][t[now], goal]
                mendable[reason][t[now], goal] = False
                unclaimed[t[now], goal] = False
    return cause, target, mended_right


def _choose(overlap: NDArray[np.float64], unclaimed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """[T] the track overlapped most, of those [T, G] still to be had if there is one in sight."""
    wanted = unclaimed & (overlap >= _FAINT)
    return np.where(wanted.any(1), np.where(wanted, overlap, -1).argmax(1), overlap.argmax())
