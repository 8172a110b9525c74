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
_FEW = 120  # assignments are all tried, more are left to scipy


def _per_alpha() -> NDArray[np.float64]:
    return np.zeros(len(ALPHAS))


@dataclass(slots=True)
class Counts:
    """What adds up over videos. Arrays have one entry an alpha."""

    right: NDArray[np.float64] = field(default_factory=_per_alpha)  # matched detections
    located: NDArray[np.float64] = field(default_factory=_per_alpha)  # their IoU, summed
    associated: NDArray[np.float64] = field(default_factory=_per_alpha)  # their association scores, summed
    truths: int = 0  # masks, all frames together
    results: int = 0
    id_right: int = 0  # masks right under the best one-to-one assignment of whole tracks
    clear_right: int = 0  # masks right under the frame-to-frame assignment
    switches: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.right + other.right,
            self.located + other.located,
            self.associated + other.associated,
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
    missed, surplus = counts.truths - counts.right, counts.results - counts.right
    deta = counts.right / np.maximum(1, counts.right + missed + surplus)
    assa = counts.associated / np.maximum(1, counts.right)
    loca = np.maximum(1e-10, counts.located) / np.maximum(1e-10, counts.right)
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
    """Compare the predictions and the true tracks of one class in one video."""
    result_there, truth_there = (
        result_there[(d := result_there.any(1))],
        truth_there[(g := truth_there.any(1))],
    )
    counts = Counts(truths=int(truth_there.sum()), results=int(result_there.sum()))
    if not counts.truths or not counts.results:
        return counts
    similarity = np.ascontiguousarray(iou[d][:, g].transpose(2, 1, 0))  # [T, G, D]
    pair = truth_there.sum(1)[:, None] + result_there.sum(1)  # [G, D] masks of both tracks
    _count_hota(counts, similarity, pair)
    _count_identity(counts, similarity, truth_there.sum(1), result_there.sum(1))
    _count_clear(counts, similarity, truth_there.T, result_there.T)
    return counts


def _count_hota(
    counts: Counts,
    similarity: NDArray[np.float64],
    pair: NDArray[np.int64],
) -> None:
    rivals = similarity.sum(1, keepdims=True) + similarity.sum(2, keepdims=True) - similarity
    possible = np.where(rivals > _EPS, similarity / np.where(rivals > _EPS, rivals, 1), 0).sum(0)  # [G, D]
    alignment = possible / (pair - possible)
    match = _assign(alignment * similarity)  # [T, G]
    t, g = np.nonzero(match >= 0)
    d = match[t, g]
    iou = similarity[t, g, d]
    good = iou >= ALPHAS[:, None] - _EPS  # [A, M]
    counts.right = good.sum(1).astype(float)
    counts.located = (good * iou).sum(1)
    a, m = np.nonzero(good)
    cell = np.ravel_multi_index((a, g[m], d[m]), (len(ALPHAS), *pair.shape))
    together = np.bincount(cell, minlength=len(ALPHAS) * pair.size).reshape(len(ALPHAS), *pair.shape)
    counts.associated = (together * together / np.maximum(1, pair - together)).sum((1, 2))


def _assign(gain: NDArray[np.float64]) -> NDArray[np.int64]:
    """[T, G] the prediction matched to each true track in each frame for the greatest gain, -1: none."""
    match = _unrivalled(gain)
    for t in np.flatnonzero(_contested(gain)):
        match[t] = _best(gain[t])
    return match


def _unrivalled(gain: NDArray[np.float64]) -> NDArray[np.int64]:
    """[T, G] the best prediction of each track alone; right where no two tracks want the same."""
    best = gain.argmax(2)
    if gain.shape[2] == 1:  # one prediction: it goes to the track that gains most
        best = np.where(np.arange(gain.shape[1]) == gain[:, :, 0].argmax(1)[:, None], 0, -1)
    return np.where(gain.any(2), best, -1)


def _contested(gain: NDArray[Any]) -> NDArray[np.bool_]:
    """[T] whether several tracks and several predictions have partners to choose from."""
    positive = gain > 0
    if 1 in positive.shape[1:]:
        return np.zeros(len(gain), np.bool_)
    return np.asarray((positive.sum(1) > 1).any(1) | (positive.sum(2) > 1).any(1))


def _best(gain: NDArray[Any]) -> NDArray[np.int64]:
    """[G] the one-to-one assignment of [G, D] with the greatest gain; without gain no partner."""
    match = np.full(len(gain), -1)
    rows, columns = np.flatnonzero(gain.any(1)), np.flatnonzero(gain.any(0))
    if not len(rows):
        return match
    wanted = gain[rows][:, columns]
    if len(rows) <= len(columns):
        match[rows] = columns[_one_to_one(wanted)]
    else:
        match[rows[_one_to_one(wanted.T)]] = columns
    match[gain[np.arange(len(gain)), match] <= 0] = -1
    return match


def _one_to_one(gain: NDArray[Any]) -> NDArray[np.int64]:
    """[r] the columns of the best assignment of all rows of [r, c], r <= c."""
    rows, columns = gain.shape
    if math.perm(columns, rows) <= _FEW:
        choices = _choices(rows, columns)
        return np.asarray(choices[gain[np.arange(rows), choices].sum(1).argmax()])
    from scipy.optimize import linear_sum_assignment  # loading it takes as long as measuring 50 videos

    return np.asarray(linear_sum_assignment(gain, maximize=True)[1])


@cache
def _choices(rows: int, columns: int) -> NDArray[np.int64]:
    """[P, r] every way to give each row a column of its own."""
    return np.array(list(permutations(range(columns), rows)), np.int64)


def _count_identity(
    counts: Counts,
    similarity: NDArray[np.float64],
    truth_length: NDArray[np.int64],
    result_length: NDArray[np.int64],
) -> None:
    """Matching whole tracks to lose the fewest masks is matching them to share the most."""
    shared = (similarity >= _CLEAR_IOU).sum(0)  # [G, D]
    if _contested(shared[None])[0]:
        match = _best(shared)
        counts.id_right = int(shared[match >= 0, match[match >= 0]].sum())
    else:  # all that have a partner get it; of several for one the best
        counts.id_right = int(min(shared.max(0).sum(), shared.max(1).sum()))


def _count_clear(
    counts: Counts,
    similarity: NDArray[np.float64],
    truth_there: NDArray[np.bool_],
    result_there: NDArray[np.bool_],
) -> None:
    """Frame by frame, keeping the last frame's partners first and then the best overlap."""
    gain = np.where(similarity >= _CLEAR_IOU - _EPS, similarity, 0)
    contested, choice, gains = _contested(gain), _unrivalled(gain).tolist(), gain.tolist()
    tracks = range(len(choice[0]))
    before = [-1 for _ in tracks]  # partner in the last usable frame
    latest = list(before)  # partner whenever there was one last
    for t in np.flatnonzero(truth_there.any(1) & result_there.any(1)).tolist():
        kept = [p >= 0 and gains[t][g][p] > 0 for g, p in zip(tracks, before, strict=True)]
        match = choice[t]
        if contested[t]:
            match = _best(_kept_first(gain[t], before)).tolist()
        elif any(kept) and gain.shape[2] == 1:  # the one prediction stays where it was
            match = [p if stays else -1 for p, stays in zip(before, kept, strict=True)]
        elif any(kept):
            match = [p if stays else m for p, stays, m in zip(before, kept, match, strict=True)]
        for g in tracks:
            if match[g] >= 0:
                counts.clear_right += 1
                counts.switches += latest[g] not in (-1, match[g])
                latest[g] = match[g]
        before = match


def _kept_first(gain: NDArray[np.float64], before: list[int]) -> NDArray[np.float64]:
    """[G, D] gain that no overlap can outweigh for partners of the last frame."""
    kept = np.array(before)[:, None] == np.arange(gain.shape[1])
    return np.where(gain > 0, gain + 1000 * kept, 0)
