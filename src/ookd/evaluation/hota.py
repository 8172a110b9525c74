"""HOTA, IDF1, MOTA and identity switches of masks, by their published formulas.

They judge one set of tracks, not a ranking, so only predictions with a score of at least `MIN_SCORE` take
part. Each video and class gives `TrackingCounts`. Counts add up over videos, and scores are computed from the
sums. A track is present in a frame if its mask has an area there. Crowd tracks take no part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ookd.evaluation.returns import ReturnCounts, count_returns

MIN_SCORE = 0.3
ALPHAS = np.arange(0.05, 0.99, 0.05)
_EPS = np.finfo(float).eps
_CLEAR_IOU = 0.5
_FEW = 400  # up to so many assignments are all tried; scipy solves the rest


def _nothing() -> NDArray[np.float64]:
    return np.zeros((3, len(ALPHAS)))


@dataclass(slots=True)
class TrackingCounts:
    """Counts that add up over videos."""

    # [3, A] for each alpha: matched detections, the sum of their IoU, the sum of their association scores
    matched: NDArray[np.float64] = field(default_factory=_nothing)
    truths: int = 0  # masks of all frames
    results: int = 0
    id_right: int = 0  # masks matched under the best one-to-one assignment of whole tracks
    clear_right: int = 0  # masks matched under the frame-by-frame assignment
    returns: ReturnCounts = field(default_factory=ReturnCounts)  # under the same assignment

    @property
    def switches(self) -> int:
        return self.returns.switches

    def __add__(self, other: TrackingCounts) -> TrackingCounts:
        return TrackingCounts(
            self.matched + other.matched,
            self.truths + other.truths,
            self.results + other.results,
            self.id_right + other.id_right,
            self.clear_right + other.clear_right,
            self.returns + other.returns,
        )


@dataclass(frozen=True, slots=True)
class TrackingScores:
    """HOTA and its parts are means over the localisation thresholds alpha."""

    hota: float
    deta: float
    assa: float
    loca: float
    idf1: float
    mota: float
    switches: int


def tracking_scores(counts: TrackingCounts) -> TrackingScores:
    """The scores of summed counts."""
    right, located, associated = counts.matched
    missed, surplus = counts.truths - right, counts.results - right
    deta = right / np.maximum(1, right + missed + surplus)
    assa = associated / np.maximum(1, right)
    loca = np.maximum(1e-10, located) / np.maximum(1e-10, right)
    clear_surplus = counts.results - counts.clear_right
    return TrackingScores(
        hota=float(np.sqrt(deta * assa).mean()),
        deta=float(deta.mean()),
        assa=float(assa.mean()),
        loca=float(loca.mean()),
        idf1=counts.id_right / max(1.0, 0.5 * (counts.truths + counts.results)),
        mota=(counts.clear_right - clear_surplus - counts.switches) / max(1.0, counts.truths),
        switches=counts.switches,
    )


def count_tracking(
    iou: NDArray[np.float64],  # [D, G, T]
    result_there: NDArray[np.bool_],  # [D, T]
    truth_there: NDArray[np.bool_],  # [G, T]
) -> TrackingCounts:
    """Count for the predictions and true tracks of one class in one video. Each has at least one mask."""
    counts = TrackingCounts(truths=int(truth_there.sum()), results=int(result_there.sum()))
    if not counts.truths or not counts.results:
        return counts
    similarity = np.ascontiguousarray(iou.transpose(2, 1, 0))  # [T, G, D]
    pair = truth_there.sum(1)[:, None] + result_there.sum(1)  # [G, D] masks of the two tracks together
    _count_hota(counts, similarity, pair)
    _count_identity(counts, similarity)
    match = match_frames(similarity, truth_there.T, result_there.T)
    frame, track = np.nonzero(match >= 0)
    counts.clear_right = len(frame)
    counts.returns = count_returns(frame, track, match[frame, track])
    return counts


def _count_hota(counts: TrackingCounts, similarity: NDArray[np.float64], pair: NDArray[np.int64]) -> None:
    rivals = similarity.sum(1, keepdims=True) + similarity.sum(2, keepdims=True) - similarity
    possible = np.divide(similarity, rivals, out=np.zeros_like(rivals), where=rivals > _EPS).sum(0)  # [G, D]
    alignment = possible / (pair - possible)
    match = _best(alignment * similarity)  # [T, G]
    t, g = np.nonzero(match >= 0)
    d = match[t, g]
    iou = similarity[t, g, d]
    good = iou >= ALPHAS[:, None] - _EPS  # [A, M]
    a, m = np.nonzero(good)
    cell = np.ravel_multi_index((a, g[m], d[m]), (len(ALPHAS), *pair.shape))
    together = np.bincount(cell, minlength=len(ALPHAS) * pair.size).reshape(len(ALPHAS), *pair.shape)
    associated = (together * together / np.maximum(1, pair - together)).sum((1, 2))
    counts.matched = np.stack([good.sum(1), (good * iou).sum(1), associated])


def _best(gain: NDArray[Any]) -> NDArray[np.int64]:
    """[T, G] the one-to-one partners with the largest total gain in each frame of [T, G, D]; -1: no gain."""
    if gain.shape[1] == 1:  # the usual case
        return np.where(gain.max(2) > 0, gain.argmax(2), -1)
    match: NDArray[np.int64] = np.full(gain.shape[:2], -1)
    some = np.asarray(gain.any(0))  # [G, D]
    tracks, results = np.flatnonzero(some.any(1)), np.flatnonzero(some.any(0))
    wanted = gain[:, tracks[:, None], results]
    frame = np.arange(len(gain))[:, None]
    if len(tracks) <= len(results):
        match[:, tracks] = results[_one_to_one(wanted)]
    else:
        match[frame, tracks[_one_to_one(wanted.transpose(0, 2, 1))]] = results
    match[gain[frame, np.arange(match.shape[1]), match] <= 0] = -1
    return match


def _one_to_one(gain: NDArray[Any]) -> NDArray[np.int64]:
    """[T, r] the best column for each row of [T, r, c], r <= c; no two rows share one."""
    rows, columns = gain.shape[1:]
    if math.perm(columns, rows) <= _FEW:
        choices = _choices(rows, columns)
        return np.asarray(choices[gain[:, np.arange(rows), choices].sum(2).argmax(1)])
    from scipy.optimize import linear_sum_assignment  # slow to import: as long as 50 videos

    return np.stack([linear_sum_assignment(frame, maximize=True)[1] for frame in gain])


@cache
def _choices(rows: int, columns: int) -> NDArray[np.int64]:
    """[P, r] all ways to give each row a column of its own."""
    ways = list(permutations(range(columns), rows))
    return np.array(ways, np.int64).reshape(len(ways), rows)


def _count_identity(counts: TrackingCounts, similarity: NDArray[np.float64]) -> None:
    """The assignment of whole tracks that misses the fewest masks is the one that shares the most."""
    shared = (similarity >= _CLEAR_IOU).sum(0)  # [G, D]
    (match,) = _best(shared[None])
    g = np.flatnonzero(match >= 0)
    counts.id_right = int(shared[g, match[g]].sum())


def match_frames(
    similarity: NDArray[np.float64],  # [T, G, D]
    truth_there: NDArray[np.bool_],  # [T, G]
    result_there: NDArray[np.bool_],  # [T, D]
) -> NDArray[np.int64]:
    """[T, G] the result matched to each true track, -1 if none is.

    Frame by frame, the partners of the last frame are kept, and the best overlap decides about the others.
    """
    gain = np.where(similarity >= _CLEAR_IOU - _EPS, similarity, 0)
    best, gains = _best(gain).tolist(), gain.tolist()
    before = [-1] * gain.shape[1]  # partner in the last frame with truth and results
    for t in np.flatnonzero(truth_there.any(1) & result_there.any(1)).tolist():
        if best[t] != before:
            kept = {g: p for g, p in enumerate(before) if p >= 0 and gains[t][g][p] > 0}
            if any(best[t][g] != p for g, p in kept.items()):
                best[t] = _besides(kept, gain[t])
            before = best[t]
    return np.array(best)


def _besides(kept: dict[int, int], gain: NDArray[np.float64]) -> list[int]:
    """[G] the kept partners, and the best ones in [G, D] for all other tracks."""
    rest = np.full(len(gain), -1)
    if len(kept) < len(gain):
        free = gain.copy()
        free[list(kept)], free[:, list(kept.values())] = 0, 0
        (rest,) = _best(free[None])
    rest[list(kept)] = list(kept.values())
    return rest.tolist()
