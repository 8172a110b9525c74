"""Which cause every wrong prediction and every missed track of a video gets.

At each IoU threshold t a wrong prediction is, in this order,

    duplicate       IoU >= t with a track of its class that a better prediction already has
    class           IoU >= t with a track of another class
    identity        0.1 <= IoU < t with a track of its class, but its masks are good while it is on it (IoU
                    over the frames where frame IoU >= 1/2 reaches t): it switches, breaks off, starts late
    mask            0.1 <= IoU < t with a track of its class otherwise
    class_and_mask  0.1 <= IoU < t with a track of another class only
    background      none of these

and a true track without a match that no wrong prediction points at is `missed`. Mended,
duplicates and background go; the others become right for the track they point at, the best of them if it is
free, and go otherwise; a missed track gets a perfect prediction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ookd.evaluation.ap import IOU_THRESHOLDS, MAX_DETECTIONS, RIGHT, WRONG

if TYPE_CHECKING:
    from ookd.evaluation.video import Measured

CAUSES = ("class", "duplicate", "identity", "mask", "class_and_mask", "background", "missed")
_CLASS, _DUPLICATE, _IDENTITY, _MASK, _BOTH, _BACKGROUND, MISSED = range(7)
UNBLAMED, ABSENT = -1, -2  # no cause: right, or not counted at this threshold
_FAINT = 0.1  # below this overlap a prediction has nothing to do with a track


@dataclass(slots=True)
class Page:
    """One video's part of the ledger: its G true tracks, then its predictions by falling score."""

    score: NDArray[np.float64]  # [N] infinite for true tracks: a mended miss comes first
    label: NDArray[np.int64]
    cause: NDArray[np.int8]  # [T, N]
    mended_label: NDArray[np.int32]
    mended_right: NDArray[np.bool_]

    @staticmethod
    def empty() -> Page:
        nothing, rows = np.zeros(0, np.int64), np.zeros((len(IOU_THRESHOLDS), 0), np.int64)
        return Page(nothing.astype(float), nothing, rows.astype(np.int8), rows.astype(np.int32), rows > 0)


def page_of(v: Measured) -> Page:
    """Find the causes in one video."""
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
    return Page(
        np.concatenate([np.full(tracks, np.inf), v.score[d]]),
        np.concatenate([v.truth_label, v.label[d]]),
        np.concatenate([np.where(missed, MISSED, ABSENT).astype(np.int8), cause], 1),
        np.concatenate(
            [theirs, np.where(target >= 0, np.append(v.truth_label, 0)[target], own)], 1, dtype=np.int32
        ),
        np.concatenate([missed, mended_right], 1),
    )


def _free(v: Measured, d: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[T, G] true tracks that count and that no prediction has."""
    free = np.repeat(~v.crowd[None], len(IOU_THRESHOLDS), 0)
    t, n = np.nonzero(v.matched.taken[:, d] >= 0)
    free[t, v.matched.taken[t, d[n]]] = False
    return free


def _blame(
    v: Measured, d: NDArray[np.int64]
) -> tuple[NDArray[np.int8], NDArray[np.int64], NDArray[np.bool_]]:
    """[T, n] cause of each prediction, the track it points at (-1: none), whether mending makes it right."""
    outcome = v.matched.outcome[0][:, d]
    cause = np.select([outcome == RIGHT, outcome == WRONG], [UNBLAMED, _BACKGROUND], ABSENT).astype(np.int8)
    target = np.full(cause.shape, -1, np.int64)
    mended_right = np.zeros(cause.shape, np.bool_)
    if not len(v.crowd):
        return cause, target, mended_right
    iou = np.where(v.crowd, 0, v.iou[d])  # [n, G]
    same = v.label[d][:, None] == v.truth_label
    own, foreign = np.where(same, iou, 0), np.where(same, 0, iou)
    rest = outcome == WRONG
    for reason, applies in (
        (_DUPLICATE, own.max(1) >= IOU_THRESHOLDS[:, None]),
        (_CLASS, foreign.max(1) >= IOU_THRESHOLDS[:, None]),
        (_MASK, own.max(1) >= _FAINT),  # or identity: that depends on the track
        (_BOTH, foreign.max(1) >= _FAINT),
    ):
        cause[rest & applies] = reason
        rest = rest & ~applies
    free = _free(v, d)
    unclaimed = free.copy()  # nothing points at it yet
    mendable = np.repeat(free[None], len(CAUSES), 0)  # each cause alone, so each may use a free track
    mine = cause == _MASK
    points = mine | (cause == _CLASS) | (cause == _BOTH)
    overlap = np.where(mine[..., None], own, foreign)  # [T, n, G]
    most = overlap.max(2)
    enough = np.where(most >= IOU_THRESHOLDS[:, None], IOU_THRESHOLDS[:, None], _FAINT)
    reached, nearest = overlap >= enough[..., None], overlap.argmax(2)
    for i in np.flatnonzero(points.any(0)).tolist():
        # The track overlapped most, of those still to be had if one is overlapped as much as it must be.
        wanted = unclaimed & reached[:, i]
        best = np.where(wanted, overlap[:, i], -1).argmax(1)
        t = points[:, i].nonzero()[0]
        g = np.where(wanted.any(1), best, nearest[:, i])[t]
        target[t, i] = g
        on = mine[t, i] & (v.iou_when_on[d[i], g] >= IOU_THRESHOLDS[t])
        cause[t[on], i] = _IDENTITY
        claim = cause[t, i], t, g
        mended_right[t, i] = mendable[claim]
        mendable[claim] = False
        unclaimed[t, g] = False
    return cause, target, mended_right
