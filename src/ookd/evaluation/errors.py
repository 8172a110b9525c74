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

import numpy as np
from numpy.typing import NDArray

from ookd.evaluation.ap import IOU_THRESHOLDS, MAX_DETECTIONS, RECALL_THRESHOLDS, RIGHT, WRONG
from ookd.evaluation.video import Measured

CAUSES = ("class", "duplicate", "identity", "mask", "class_and_mask", "background", "missed")
_FAINT = 0.1  # below this overlap a prediction has nothing to do with a track
_NONE, _MISSED = -1, CAUSES.index("missed")
_CLASS, _DUPLICATE, _IDENTITY, _MASK, _BOTH, _BACKGROUND = range(6)


@dataclass(slots=True)
class Ledger:
    """Predictions of all videos at one IoU threshold, by falling score, as right or wrong."""

    label: NDArray[np.int64]  # [N]
    video: NDArray[np.int64]  # [N] index of the video
    right: NDArray[np.bool_]  # [N]
    cause: NDArray[np.int8]  # [N] why wrong, -1 for right ones; `missed`: a place held for a missed track
    mended_label: NDArray[np.int64]  # [N] the class once mended
    mended_right: NDArray[np.bool_]  # [N] right once mended; otherwise it goes

    def mend(self, cause: int | None) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Labels, videos and rightness with one cause mended (None: as it is)."""
        concerned = self.cause == cause if cause is not None else np.zeros(len(self.label), np.bool_)
        keep = np.where(concerned, self.mended_right, self.cause != _MISSED)
        label = np.where(concerned, self.mended_label, self.label)
        right = np.where(concerned, self.mended_right, self.right)
        return label[keep], self.video[keep], right[keep]


def ledgers(videos: Sequence[Measured]) -> list[Ledger]:
    """One ledger an IoU threshold."""
    rows = [[_of_video(v, t, i) for i, v in enumerate(videos)] for t in range(len(IOU_THRESHOLDS))]
    return [_merged(of_threshold) for of_threshold in rows]


def truths_by_video(videos: Sequence[Measured], classes: int) -> NDArray[np.int64]:
    """[V, K] true tracks that count."""
    tracks = [np.bincount(v.truth_label[~v.crowd], minlength=classes) for v in videos]
    return np.stack(tracks) if tracks else np.zeros((0, classes), np.int64)


def class_ap(
    entries: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]],
    truths: NDArray[np.int64],  # [V, K]
    weights: NDArray[np.int64],  # [R, V] how often each video counts, in R resamplings
) -> NDArray[np.float64]:
    """[R, K] AP of each class; nan where it has no truth."""
    label, video, right = entries
    total = weights @ truths  # [R, K]
    result = np.full(total.shape, np.nan)
    by_class = np.argsort(label, kind="stable")
    bounds = np.searchsorted(label[by_class], np.arange(truths.shape[1] + 1))
    for k in np.flatnonzero(truths.any(0)):
        mine = by_class[bounds[k] : bounds[k + 1]]
        ap = _ap(weights[:, video[mine]], right[mine], total[:, k])
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


def prices(videos: Sequence[Measured], classes: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """[C + 1, T, K] AP as it is and with each cause mended, and [C, T] how often each cause occurs."""
    truths = truths_by_video(videos, classes)
    once = np.ones((1, len(videos)), np.int64)
    books = ledgers(videos)
    ap = np.stack(
        [
            np.stack([class_ap(book.mend(cause), truths, once)[0] for book in books])
            for cause in (None, *range(len(CAUSES)))
        ]
    )
    counts = np.stack([np.bincount(book.cause[book.cause >= 0], minlength=len(CAUSES)) for book in books], 1)
    return ap, counts.astype(float)


@dataclass(slots=True)
class _Rows:
    """A video's part of a ledger, unsorted."""

    score: NDArray[np.float64]
    ledger: Ledger


def _of_video(v: Measured, t: int, index: int) -> _Rows:
    outcome, taken = v.matched.outcome[0, t], v.matched.taken[0, t]
    counts = (v.matched.rank < MAX_DETECTIONS[-1]) & ((outcome == RIGHT) | (outcome == WRONG))
    d = np.flatnonzero(counts)
    d = d[np.argsort(-v.score[d], kind="stable")]
    wrong = outcome[d] == WRONG
    cause, target = _causes(v, d, IOU_THRESHOLDS[t])
    cause = np.where(wrong, cause, _NONE)
    target = np.where(wrong, target, _NONE)

    free = ~v.crowd
    free[taken[taken >= 0]] = False
    mended_right = np.zeros(len(d), np.bool_)
    for mended in (_CLASS, _IDENTITY, _MASK, _BOTH):  # each is mended alone, so each may use a free track
        rows = np.flatnonzero((cause == mended) & (target >= 0))
        rows = rows[free[target[rows]]]
        mended_right[rows[np.unique(target[rows], return_index=True)[1]]] = True
    mended_label = np.where(target >= 0, _at(v.truth_label, target), v.label[d])

    pointed_at = np.zeros(len(v.crowd), np.bool_)
    pointed_at[target[target >= 0]] = True
    missed = np.flatnonzero(free & ~pointed_at)
    none = np.full(len(missed), _MISSED, np.int8)
    ledger = Ledger(
        np.concatenate([v.truth_label[missed], v.label[d]]),
        np.full(len(missed) + len(d), index),
        np.concatenate([np.zeros(len(missed), np.bool_), ~wrong]),
        np.concatenate([none, cause.astype(np.int8)]),
        np.concatenate([v.truth_label[missed], mended_label]),
        np.concatenate([np.ones(len(missed), np.bool_), mended_right]),
    )
    return _Rows(np.concatenate([np.full(len(missed), np.inf), v.score[d]]), ledger)


def _causes(v: Measured, d: NDArray[np.int64], t: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """[n] cause of each prediction, were it wrong, and [n] the track it points at, -1: none."""
    none = np.full(len(d), _NONE)
    if not len(v.crowd) or not len(d):
        return np.full(len(d), _BACKGROUND), none
    same_class = v.label[d][:, None] == v.truth_label
    same = np.where(same_class & ~v.crowd, v.iou[d], 0)  # [n, G]
    other = np.where(~same_class & ~v.crowd, v.iou[d], 0)
    own, foreign = same.argmax(1), other.argmax(1)
    same, other = same.max(1), other.max(1)
    good_when_on = v.iou_when_on[d, own] >= t
    choices = [
        (same >= t, _DUPLICATE, none),
        (other >= t, _CLASS, foreign),
        ((same >= _FAINT) & good_when_on, _IDENTITY, own),
        (same >= _FAINT, _MASK, own),
        (other >= _FAINT, _BOTH, foreign),
    ]
    conditions = [condition for condition, _, _ in choices]
    cause = np.select(conditions, [np.full(len(d), cause) for _, cause, _ in choices], _BACKGROUND)
    return cause, np.select(conditions, [target for _, _, target in choices], _NONE)


def _at(values: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Values at places; anything where the place is -1."""
    return np.append(values, 0)[places]


def _merged(rows: list[_Rows]) -> Ledger:
    """All videos' rows by falling score; among equals the order of videos stays."""
    if not rows:
        nothing = np.zeros(0, np.int64)
        return Ledger(nothing, nothing, nothing > 0, nothing.astype(np.int8), nothing, nothing > 0)
    order = np.argsort(-np.concatenate([row.score for row in rows]), kind="stable")
    names = ("label", "video", "right", "cause", "mended_label", "mended_right")
    return Ledger(*(np.concatenate([getattr(row.ledger, name) for row in rows])[order] for name in names))
