"""Is one result better than another? A paired bootstrap over videos.

Videos are drawn with replacement, the same ones for both results, and both are scored again. The spread of
the difference over the draws tells whether it could be chance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ookd.errors import UserError
from ookd.evaluation.ap import IOU_THRESHOLDS
from ookd.evaluation.causes import CAUSES
from ookd.evaluation.errors import ErrorTable, class_ap, error_table, truths_by_video
from ookd.evaluation.report import Report
from ookd.evaluation.returns import resampled

RESAMPLINGS = 1000


@dataclass(frozen=True, slots=True)
class Difference:
    """One number of both results, and the 95 % interval of the difference A - B."""

    a: float
    b: float
    difference: float
    low: float
    high: float

    @property
    def certain(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """A against B: AP, AP of each class, the AP lost to each cause of error, and the scores of identities."""

    ap: Difference
    ap50: Difference
    per_class: dict[str, Difference]
    errors: dict[str, Difference]
    returns: dict[str, Difference | None]  # None if A or B lacks the score: without returns, none are kept
    videos: int
    resamplings: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare(
    a: Report,
    b: Report,
    resamplings: int = RESAMPLINGS,
    seed: int = 0,
    on_progress: Callable[[float], None] = lambda share: None,
) -> Comparison:
    """Compare two reports on the same ground truth. `on_progress` receives the share done."""
    videos_of_a, videos_of_b = ([video.video for video in report.measured] for report in (a, b))
    if videos_of_a != videos_of_b or list(a.per_class) != list(b.per_class):
        raise UserError("the two results are not scored on the same videos and classes")
    if not a.measured:
        raise UserError("the ground truth has no videos to compare on")
    videos = len(a.measured)
    drawn = np.random.default_rng(seed).multinomial(videos, np.full(videos, 1 / videos), resamplings)
    weights = np.concatenate([np.ones((1, videos), np.int64), drawn])  # the first row is the data set itself
    truths = truths_by_video(a.measured, len(a.per_class))
    tables = error_table(a.measured), error_table(b.measured)

    variants: tuple[int | None, ...] = (None, *range(len(CAUSES)))
    scores: list[list[NDArray[np.float64]]] = []  # for each variant, of A and B: [T, R + 1, K]
    for done, cause in enumerate(variants):
        scores.append([_scores(table, cause, truths, weights) for table in tables])
        on_progress((done + 1) / len(variants))
    (plain_a, plain_b), *fixed = scores
    return Comparison(
        ap=_difference(_mean(plain_a), _mean(plain_b)),
        ap50=_difference(_mean(plain_a[:1]), _mean(plain_b[:1])),
        per_class={
            name: _difference(plain_a[:, :, k].mean(0), plain_b[:, :, k].mean(0))
            for k, name in enumerate(a.per_class)
            if truths[:, k].any()
        },
        errors={
            name: _difference(_mean(of_a) - _mean(plain_a), _mean(of_b) - _mean(plain_b))
            for name, (of_a, of_b) in zip(CAUSES, fixed, strict=True)
        },
        returns=_returns(a, b, weights),
        videos=videos,
        resamplings=resamplings,
    )


def _returns(a: Report, b: Report, weights: NDArray[np.int64]) -> dict[str, Difference | None]:
    """Identity switches and the scores of returns."""
    of_a, of_b = (
        resampled([video.return_counts() for video in report.measured], weights) for report in (a, b)
    )
    return {name: _difference_if_any(of_a[name], of_b[name]) for name in of_a}


def _scores(
    table: ErrorTable, cause: int | None, truths: NDArray[np.int64], weights: NDArray[np.int64]
) -> NDArray[np.float64]:
    """[T, R, K] AP of every resampling with one cause fixed."""
    return np.stack([class_ap(table.entries(t, cause), truths, weights) for t in range(len(IOU_THRESHOLDS))])


def _mean(ap: NDArray[np.float64]) -> NDArray[np.float64]:
    """[R] over thresholds and the classes with truth among the videos drawn."""
    known = ~np.isnan(ap)
    total = np.where(known, ap, 0).sum((0, 2))
    return np.asarray(total / np.maximum(known.sum((0, 2)), 1))


def _difference(a: NDArray[np.float64], b: NDArray[np.float64]) -> Difference:
    """From [R + 1] values; the first is that of the data set itself."""
    difference = a - b
    low, high = np.nanpercentile(difference[1:], [2.5, 97.5])
    return Difference(float(a[0]), float(b[0]), float(difference[0]), float(low), float(high))


def _difference_if_any(a: NDArray[np.float64], b: NDArray[np.float64]) -> Difference | None:
    known = ~np.isnan(a - b)
    return _difference(a, b) if known[0] and known[1:].any() else None
