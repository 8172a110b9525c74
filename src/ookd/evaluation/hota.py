"""HOTA, IDF1, MOTA and identity switches of masks, by their published formulas.

These measure one assignment of predictions to truth, so they look only at predictions with a score of at
least `MIN_SCORE`. Each (video, class) gives `Counts`; counts add up over videos, and the measures are made of
the sums. A track is in a frame if its mask has an area there. Crowd tracks take no part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

MIN_SCORE = 0.3
ALPHAS = np.arange(0.05, 0.99, 0.05)
_EPS = np.finfo(float).eps
_CLEAR_IOU = 0.5
_FEW = 400  # assignments are all tried, more are left to scipy


def _nothing() -> NDArray[np.float64]:
    return np.zeros((3, len(ALPHAS)))


@dataclass(slots=True)
class Counts:
    """What adds up over videos."""

    # [3, A] at each alpha: matched detections, their IoU summed, their association scores summed
    matched: NDArray[np.float64] = field(default_factory=_nothing)
    truths: int = 0  # masks, all frames together
    results: int = 0
    id_right: int = 0  # masks right under the best one-to-one assignment of whole tracks
    clear_right: int = 0  # masks right under the frame-to-frame assignment
    switches: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.matched + other.matched,
            self.truths + other.truths,
            self.results + other.results,
            self.id_right + other.id_right,
            self.clear_right + other.clear_right,
            self.switches + other.switches,
        )


@dataclass(frozen=True, slots=True)
class Tracking:
    """The measures; HOTA and its parts are means over the localisation thresholds alpha."""

    hota: float
    deta: float
    assa: float
    loca: float
    idf1: float
    mota: float
    switches: int


def measures(counts: Counts) -> Tracking:
    """From summed counts to measures."""
    right, located, associated = counts.matched
    missed, surplus = counts.truths - right, counts.results - right
    deta = right / np.maximum(1, right + missed + surplus)
    assa = associated / np.maximum(1, right)
    loca = np.maximum(1e-10, located) / np.maximum(1e-10, right)
    clear_surplus = counts.results - counts.clear_right
    return Tracking(
        hota=float(np.sqrt(deta * assa).mean()),
        deta=float(deta.mean()),
        assa=float(assa.mean()),
        loca=float(loca.mean()),
        idf1=counts.id_right / max(1.0, 0.5 * (counts.truths + counts.results)),
        mota=(counts.clear_right - clear_surplus - counts.switches) / max(1.0, counts.truths),
        switches=counts.switches,
    )


def count(
    iou: NDArray[np.float64],  # [D, G, T]
    result_there: NDArray[np.bool_],  # [D, T]
    truth_there: NDArray[np.bool_],  # [G, T]
) -> Counts:
    """Compare the predictions and the true tracks of one class in one video; each is there at some time."""
    counts = Counts(truths=int(truth_there.sum()), results=int(result_there.sum()))
    if not counts.truths or not counts.results:
        return counts
    similarity = np.ascontiguousarray(iou.transpose(2, 1, 0))  # [T, G, D]
    pair = truth_there.sum(1)[:, None] + result_there.sum(1)  # [G, D] masks of both tracks
    _count_hota(counts, similarity, pair)
    _count_identity(counts, similarity)
    _count_clear(counts, similarity, truth_there.T, result_there.T)
    return counts


def _count_hota(counts: Counts, similarity: NDArray[np.float64], pair: NDArray[np.int64]) -> None:
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
    """[T, G] the one-to-one partners that gain most in each frame of [T, G, D]; -1: none, or no gain."""
    if gain.shape[1] == 1:  # as mostly
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
    """[T, r] columns of their own for all rows of [T, r, c], r <= c."""
    rows, columns = gain.shape[1:]
    if math.perm(columns, rows) <= _FEW:
        choices = _choices(rows, columns)
        return np.asarray(choices[gain[:, np.arange(rows), choices].sum(2).argmax(1)])
    from scipy.optimize import linear_sum_assignment  # loading it takes as long as measuring 50 videos

    return np.stack([linear_sum_assignment(frame, maximize=True)[1] for frame in gain])


@cache
def _choices(rows: int, columns: int) -> NDArray[np.int64]:
    """[P, r] every way to give each row a column of its own."""
    ways = list(permutations(range(columns), rows))
    return np.array(ways, np.int64).reshape(len(ways), rows)


def _count_identity(counts: Counts, similarity: NDArray[np.float64]) -> None:
    """Matching whole tracks to lose the fewest masks is matching them to share the most."""
    shared = (similarity >= _CLEAR_IOU).sum(0)  # [G, D]
    (match,) = _best(shared[None])
    g = np.flatnonzero(match >= 0)
    counts.id_right = int(shared[g, match[g]].sum())


def _count_clear(
    counts: Counts,
    similarity: NDArray[np.float64],
    truth_there: NDArray[np.bool_],  # [T, G]
    result_there: NDArray[np.bool_],  # [T, D]
) -> None:
    """Frame by frame, keeping the last frame's partners first and then the best overlap."""
    gain = np.where(similarity >= _CLEAR_IOU - _EPS, similarity, 0)
    best, gains = _best(gain).tolist(), gain.tolist()
    before = [-1] * gain.shape[1]  # partner in the last usable frame
    latest = before  # partner whenever there was one last
    for t in np.flatnonzero(truth_there.any(1) & result_there.any(1)).tolist():
        match = best[t]
        if match != before:
            kept = {g: p for g, p in enumerate(before) if p >= 0 and gains[t][g][p] > 0}
            if any(match[g] != p for g, p in kept.items()):
                match = _besides(kept, gain[t])
            now = [old if p < 0 else p for p, old in zip(match, latest, strict=True)]
            counts.switches += sum(-1 != old != p for p, old in zip(now, latest, strict=True))
            before, latest = match, now
        counts.clear_right += len(match) - match.count(-1)


def _besides(kept: dict[int, int], gain: NDArray[np.float64]) -> list[int]:
    """[G] the kept partners, and of [G, D] the best for all other tracks."""
    rest = np.full(len(gain), -1)
    if len(kept) < len(gain):
        free = gain.copy()
        free[list(kept)], free[:, list(kept.values())] = 0, 0
        (rest,) = _best(free[None])
    rest[list(kept)] = list(kept.values())
    return rest.tolist()
