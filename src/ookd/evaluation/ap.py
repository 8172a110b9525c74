"""Average precision of tracks, identical to the official YouTube-VIS program to the last bit.

In each video and at every IoU threshold, predictions in order of score each take the best true track that is
still free. For each class, the outcomes of all videos in order of score give the precision-recall curve.

AP can be restricted to a stratum: tracks of some size, length or occlusion. True tracks outside the stratum
are ignored. So are predictions that match them, and unmatched predictions that lie outside themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_THRESHOLDS = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS = (1, 10, 100)
AREA_RANGES = {
    "all": (0.0, 1e10),
    "small": (0.0, 128.0**2),
    "medium": (128.0**2, 256.0**2),
    "large": (256.0**2, 1e10),
}
WRONG, RIGHT, IGNORED = 0, 1, 2  # the outcome of a prediction


@dataclass(slots=True)
class Matches:
    """The outcomes of a video's D predictions, in S strata at T thresholds."""

    rank: NDArray[np.int64]  # [D] rank by score among the video's predictions of the same class, from 0
    outcome: NDArray[np.uint8]  # [S, T, D]
    taken: NDArray[np.int16]  # [T, D] the true track that it matches in the first stratum; -1: none


def match(
    scores: NDArray[np.float64],  # [D]
    result_class: NDArray[np.int64],  # [D]
    truth_class: NDArray[np.int64],  # [G]
    iou: NDArray[np.float64],  # [D, G]
    crowd: NDArray[np.bool_],  # [G] may be matched any number of times, and is ignored
    truth_outside: NDArray[np.bool_],  # [S, G]
    result_outside: NDArray[np.bool_],  # [S, D]
    never_matched: NDArray[np.bool_] | None = None,  # [G] matches are lost (official defect for id 0)
) -> Matches:
    """Match greedily within each class. Among equally good true tracks, the last one is taken."""
    strata, thresholds = len(truth_outside), len(IOU_THRESHOLDS)
    n, g = iou.shape
    order = np.argsort(-scores, kind="mergesort")
    rank = _rank(result_class[order])[np.argsort(order)]
    ignored = truth_outside | crowd  # [S, G]
    taken = np.full((strata, thresholds, n), -1, np.int16)
    if n and g:
        same = np.where(result_class[:, None] == truth_class, iou, -1.0)
        reached = same[:, None] >= np.minimum(IOU_THRESHOLDS, 1 - 1e-10)[:, None]  # [D, T, G]
        left = np.ones((strata, thresholds, g), np.bool_)
        counted = ~ignored[:, None]  # [S, 1, G]
        may_match = reached[:, 0].any(1) & (rank < MAX_DETECTIONS[-1])
        for d in order[may_match[order]].tolist():
            free = left & reached[d]
            preferred = free & counted
            preferred = np.where(preferred.any(2, keepdims=True), preferred, free)
            best = g - 1 - np.where(preferred, same[d], -1.0)[..., ::-1].argmax(2)  # [S, T]
            s, t = free.any(2).nonzero()
            taken[s, t, d] = chosen = best[s, t]
            left[s, t, chosen] = crowd[chosen]
    matched = taken >= 0
    with_ignored = matched & ignored[np.arange(strata)[:, None, None], taken] if g else matched
    if never_matched is not None and g:
        matched &= ~never_matched[taken]
    outcome = np.where(matched, RIGHT, WRONG).astype(np.uint8)
    outcome[with_ignored | (~matched & result_outside[:, None])] = IGNORED
    return Matches(rank, outcome, taken[0])


def _rank(classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """[D] how many earlier entries have the same class."""
    rank = np.zeros(len(classes), np.int64)
    order = np.argsort(classes, kind="stable")
    rank[order] = np.arange(len(classes)) - np.searchsorted(classes[order], classes[order])
    return rank


@dataclass(slots=True)
class PrecisionRecall:
    """Precision over recall for K classes, A strata and M detection limits; -1 where there is no truth."""

    precision: NDArray[np.float64]  # [T, R, K, A, M]
    recall: NDArray[np.float64]  # [T, K, A, M]
    scores: NDArray[np.float64]  # [T, R, K, A, M] score at which the recall is reached


@dataclass(slots=True)
class ScoredPredictions:
    """The predictions of all videos in a row, and how many true tracks count."""

    label: NDArray[np.int64]  # [D] class
    score: NDArray[np.float64]  # [D]
    rank: NDArray[np.int64]  # [D]
    outcome: NDArray[np.uint8]  # [S, T, D]
    truths: NDArray[np.int64]  # [S, K] true tracks that count


def accumulate(
    predictions: ScoredPredictions, max_detections: Sequence[int] = MAX_DETECTIONS
) -> PrecisionRecall:
    """Precision and recall of each class in each stratum."""
    strata, classes = predictions.truths.shape
    shape = (len(IOU_THRESHOLDS), len(RECALL_THRESHOLDS), classes, strata, len(max_detections))
    precision, scores = np.full(shape, -1.0), np.full(shape, -1.0)
    recall = np.full((shape[0], *shape[2:]), -1.0)
    for k in range(classes):
        mine = np.flatnonzero(predictions.label == k)
        mine = mine[np.argsort(-predictions.score[mine], kind="mergesort")]
        taken = -1
        for m, limit in enumerate(max_detections):
            first = mine[predictions.rank[mine] < limit]
            if len(first) == taken:  # the same as with the previous limit
                for values in (precision, recall, scores):
                    values[..., k, :, m] = values[..., k, :, m - 1]
                continue
            taken = len(first)
            for s in np.flatnonzero(predictions.truths[:, k]):
                curve = _curve(
                    predictions.outcome[s][:, first], predictions.score[first], int(predictions.truths[s, k])
                )
                precision[:, :, k, s, m], recall[:, k, s, m], scores[:, :, k, s, m] = curve
    return PrecisionRecall(precision, recall, scores)


def _curve(
    outcome: NDArray[np.uint8], score: NDArray[np.float64], truths: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Precision [T, R], final recall [T] and scores [T, R] from outcomes [T, n] in order of score."""
    right = (outcome == RIGHT).cumsum(1).astype(float)
    wrong = (outcome == WRONG).cumsum(1).astype(float)
    recall = right / truths
    precision = right / (wrong + right + np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
    n = outcome.shape[1]
    reached = np.stack([row.searchsorted(RECALL_THRESHOLDS) for row in recall])  # [T, R]
    padded = np.concatenate([envelope, np.zeros((len(envelope), 1))], 1)
    score_padded = np.append(score, 0.0)
    final = recall[:, -1] if n else np.zeros(len(recall))
    return np.take_along_axis(padded, reached, 1), final, score_padded[reached]


def mean_valid(values: NDArray[np.float64]) -> float:
    """Mean over the entries that have truth; -1 if none has."""
    valid = values[values > -1]
    return float(valid.mean()) if len(valid) else -1.0


SUMMARY = (
    "AP",
    "AP50",
    "AP75",
    "AP_small",
    "AP_medium",
    "AP_large",
    "AR1",
    "AR10",
    "AR100",
    "AR_small",
    "AR_medium",
    "AR_large",
)


def summarise(curves: PrecisionRecall) -> dict[str, float]:
    """The twelve official numbers. The first four strata must be the official area ranges."""
    precision, recall = curves.precision, curves.recall
    half, three_quarters = (int(np.isclose(IOU_THRESHOLDS, at).argmax()) for at in (0.5, 0.75))
    values = [
        precision[:, :, :, 0, -1],
        precision[half, :, :, 0, -1],
        precision[three_quarters, :, :, 0, -1],
        *(precision[:, :, :, area, -1] for area in (1, 2, 3)),
        *(recall[:, :, 0, m] for m in range(3)),
        *(recall[:, :, area, -1] for area in (1, 2, 3)),
    ]
    return dict(zip(SUMMARY, map(mean_valid, values), strict=True))
