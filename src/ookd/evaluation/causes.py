"""The cause of every wrong prediction and every missed track of a video.

At each IoU threshold t, a wrong prediction gets the first cause that applies:

    duplicate       IoU >= t with a track of its class that a better prediction already has
    class           IoU >= t with a track of another class
    identity        0.1 <= IoU < t with a track of its class, but its masks are good while it is on the object
                    (IoU over the frames with a frame IoU >= 1/2 reaches t): the track switches, breaks off or
                    starts late
    mask            0.1 <= IoU < t with a track of its class, otherwise
    class_and_mask  0.1 <= IoU < t with a track of another class only
    background      none of these

A true track without a match is `missed`, unless a wrong prediction points at it.

Fixing a cause means: duplicates and background predictions are removed. Other predictions become right for
the track they point at (the free track they overlap most) and are removed if that track is taken. A missed
track gets a perfect prediction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ookd.evaluation.ap import IOU_THRESHOLDS, MAX_DETECTIONS, RIGHT, WRONG

if TYPE_CHECKING:
    from ookd.evaluation.video import MeasuredVideo

CAUSES = ("class", "duplicate", "identity", "mask", "class_and_mask", "background", "missed")
_CLASS, _DUPLICATE, _IDENTITY, _MASK, _BOTH, _BACKGROUND, MISSED = range(7)
CORRECT, NOT_COUNTED = -1, -2  # no cause: a right prediction, or one that does not count at this threshold
_LEAST_IOU = 0.1  # with less overlap a prediction has nothing to do with a track


@dataclass(slots=True)
class VideoErrors:
    """One video's errors: its G true tracks, then its predictions by falling score."""

    score: NDArray[np.float64]  # [N] infinite for true tracks: a fixed miss comes first
    label: NDArray[np.int64]
    cause: NDArray[np.int8]  # [T, N]
    fixed_label: NDArray[np.int32]
    fixed_right: NDArray[np.bool_]

    @staticmethod
    def empty() -> VideoErrors:
        nothing, rows = np.zeros(0, np.int64), np.zeros((len(IOU_THRESHOLDS), 0), np.int64)
        return VideoErrors(
            nothing.astype(float), nothing, rows.astype(np.int8), rows.astype(np.int32), rows > 0
        )


def find_errors(v: MeasuredVideo) -> VideoErrors:
    """Find the causes in one video."""
    thresholds, tracks = len(IOU_THRESHOLDS), len(v.crowd)
    d = np.flatnonzero(v.matches.rank < MAX_DETECTIONS[-1])
    d = d[np.argsort(-v.score[d], kind="stable")]
    cause, target, fixed_right = _causes(v, d)
    pointed_at = np.zeros((thresholds, tracks), np.bool_)
    t, n = np.nonzero(target >= 0)
    pointed_at[t, target[t, n]] = True
    missed = _unmatched(v, d) & ~pointed_at
    own = np.broadcast_to(v.label[d], cause.shape)
    theirs = np.broadcast_to(v.truth_label, missed.shape)
    return VideoErrors(
        np.concatenate([np.full(tracks, np.inf), v.score[d]]),
        np.concatenate([v.truth_label, v.label[d]]),
        np.concatenate([np.where(missed, MISSED, NOT_COUNTED).astype(np.int8), cause], 1),
        np.concatenate(
            [theirs, np.where(target >= 0, np.append(v.truth_label, 0)[target], own)], 1, dtype=np.int32
        ),
        np.concatenate([missed, fixed_right], 1),
    )


def _unmatched(v: MeasuredVideo, d: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[T, G] true tracks that count and have no prediction."""
    free = np.repeat(~v.crowd[None], len(IOU_THRESHOLDS), 0)
    t, n = np.nonzero(v.matches.taken[:, d] >= 0)
    free[t, v.matches.taken[t, d[n]]] = False
    return free


def _causes(
    v: MeasuredVideo, d: NDArray[np.int64]
) -> tuple[NDArray[np.int8], NDArray[np.int64], NDArray[np.bool_]]:
    """[T, n] cause of each prediction, the track it points at (-1: none), whether the fix makes it right."""
    outcome = v.matches.outcome[0][:, d]
    cause = np.select([outcome == RIGHT, outcome == WRONG], [CORRECT, _BACKGROUND], NOT_COUNTED).astype(
        np.int8
    )
    target = np.full(cause.shape, -1, np.int64)
    fixed_right = np.zeros(cause.shape, np.bool_)
    if not len(v.crowd):
        return cause, target, fixed_right
    iou = np.where(v.crowd, 0, v.iou[d])  # [n, G]
    same = v.label[d][:, None] == v.truth_label
    own, foreign = np.where(same, iou, 0), np.where(same, 0, iou)
    rest = outcome == WRONG
    for reason, applies in (
        (_DUPLICATE, own.max(1) >= IOU_THRESHOLDS[:, None]),
        (_CLASS, foreign.max(1) >= IOU_THRESHOLDS[:, None]),
        (_MASK, own.max(1) >= _LEAST_IOU),  # or identity, which depends on the track
        (_BOTH, foreign.max(1) >= _LEAST_IOU),
    ):
        cause[rest & applies] = reason
        rest = rest & ~applies
    free = _unmatched(v, d)
    unclaimed = free.copy()  # no prediction points at it yet
    fixable = np.repeat(
        free[None], len(CAUSES), 0
    )  # causes are fixed one at a time: each may use a free track
    is_mask = cause == _MASK
    points = is_mask | (cause == _CLASS) | (cause == _BOTH)
    overlap = np.where(is_mask[..., None], own, foreign)  # [T, n, G]
    most = overlap.max(2)
    enough = np.where(most >= IOU_THRESHOLDS[:, None], IOU_THRESHOLDS[:, None], _LEAST_IOU)
    reached, nearest = overlap >= enough[..., None], overlap.argmax(2)
    for i in np.flatnonzero(points.any(0)).tolist():
        # The track it overlaps most among the unclaimed ones that it overlaps enough; else among all.
        candidates = unclaimed & reached[:, i]
        best = np.where(candidates, overlap[:, i], -1).argmax(1)
        t = points[:, i].nonzero()[0]
        g = np.where(candidates.any(1), best, nearest[:, i])[t]
        target[t, i] = g
        good_masks = is_mask[t, i] & (v.iou_when_on[d[i], g] >= IOU_THRESHOLDS[t])
        cause[t[good_masks], i] = _IDENTITY
        claim = cause[t, i], t, g
        fixed_right[t, i] = fixable[claim]
        fixable[claim] = False
        unclaimed[t, g] = False
    return cause, target, fixed_right
