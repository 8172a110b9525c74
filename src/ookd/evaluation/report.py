"""The result of an evaluation, as one typed object and as plain data for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ookd.evaluation import ap, errors, hota, strata
from ookd.evaluation.causes import CAUSES
from ookd.evaluation.predictions import Predictions
from ookd.evaluation.returns import ReturnScores, return_scores
from ookd.evaluation.truth import GroundTruth
from ookd.evaluation.video import MeasuredVideo, ScoringRules


@dataclass(frozen=True, slots=True)
class ClassReport:
    """Scores of one class; AP is -1 if it has no true track."""

    name: str
    tracks: int
    predictions: int
    frequency: str  # minor, middle or major
    ap: float
    ap50: float
    ap75: float
    ar10: float
    tracking: hota.TrackingScores
    returns: ReturnScores


@dataclass(frozen=True, slots=True)
class ErrorCost:
    """One cause of lost AP: what fixing it alone would add, and how often it occurs at IoU 0.5."""

    ap: float
    ap50: float
    count: int


@dataclass(slots=True)
class Report:
    """What `ookd.evaluate` returns. AP and similar scores are in 0..1, or -1 where nothing counts."""

    summary: dict[str, float]  # the twelve official numbers
    per_class: dict[str, ClassReport]
    splits: dict[str, dict[str, float]]  # the same for each annotation file, if there are several
    strata: dict[str, dict[str, float]]  # AP by length, occlusion and frequency
    tracking: hota.TrackingScores  # over the masks of all classes
    returns: ReturnScores  # over the objects of all classes
    errors: dict[str, ErrorCost]
    videos: int
    tracks: int
    predictions: int  # scored ones
    dropped: list[str]  # entries left out, and why
    min_score: float  # least score of predictions that count for `tracking` and `returns`
    curves: ap.PrecisionRecall = field(repr=False)  # in the four official area ranges
    measured: list[MeasuredVideo] = field(repr=False)
    truth: GroundTruth = field(repr=False)
    entries: Predictions = field(repr=False)

    @property
    def ap(self) -> float:
        return self.summary["AP"]

    def as_dict(self) -> dict[str, Any]:
        """Plain data: everything except the curves and what they were made from."""
        return {
            "summary": self.summary,
            "splits": self.splits,
            "strata": self.strata,
            "tracking": asdict(self.tracking) | {"min_score": self.min_score},
            "returns": asdict(self.returns),
            "errors": {name: asdict(cause) for name, cause in self.errors.items()},
            "per_class": {name: asdict(row) for name, row in self.per_class.items()},
            "videos": self.videos,
            "tracks": self.tracks,
            "predictions": self.predictions,
            "dropped": len(self.dropped),
        }


def make_report(
    truth: GroundTruth,
    entries: Predictions,
    measured: list[MeasuredVideo],
    rules: ScoringRules,
    dropped: list[str],
    class_counts: Sequence[int] | None,
) -> Report:
    """Score all measured videos together."""
    categories = sorted(truth.categories, key=lambda category: category.id)
    names = ["all classes"] if rules.class_agnostic else [category.name for category in categories]
    curves = ap.accumulate(_joined(measured, len(names)))
    frequency = _frequency(truth, names, measured, class_counts)
    counts, of_class = _tracking_counts(measured)
    return Report(
        summary=ap.summarise(curves),
        per_class=_per_class(names, curves, measured, of_class, frequency),
        splits=_splits(truth, measured, len(names)),
        strata=_strata(curves, frequency),
        tracking=hota.tracking_scores(counts),
        returns=return_scores(counts.returns),
        errors=_error_costs(measured, len(names)),
        videos=len(measured),
        tracks=sum(len(video.crowd) for video in measured),
        predictions=sum(len(video.score) for video in measured),
        dropped=dropped,
        min_score=rules.min_score,
        curves=_official(curves),
        measured=measured,
        truth=truth,
        entries=entries,
    )


def _joined(measured: list[MeasuredVideo], classes: int) -> ap.ScoredPredictions:
    strata_count = len(strata.NAMES)
    truths = np.zeros((strata_count, classes), np.int64)
    for video in measured:
        s, g = np.nonzero(~(video.truth_outside | video.crowd))
        np.add.at(truths, (s, video.truth_label[g]), 1)
    empty = np.zeros((strata_count, len(ap.IOU_THRESHOLDS), 0), np.uint8)
    return ap.ScoredPredictions(
        np.concatenate([np.zeros(0, np.int64), *(video.label for video in measured)]),
        np.concatenate([np.zeros(0), *(video.score for video in measured)]),
        np.concatenate([np.zeros(0, np.int64), *(video.matches.rank for video in measured)]),
        np.concatenate([empty, *(video.matches.outcome for video in measured)], 2),
        truths,
    )


def _official(curves: ap.PrecisionRecall) -> ap.PrecisionRecall:
    areas = len(ap.AREA_RANGES)
    return ap.PrecisionRecall(
        curves.precision[:, :, :, :areas], curves.recall[:, :, :areas], curves.scores[:, :, :, :areas]
    )


def _frequency(
    truth: GroundTruth, names: list[str], measured: list[MeasuredVideo], class_counts: Sequence[int] | None
) -> list[str]:
    """The frequency group of each class, in the order of ids."""
    if len(names) != len(truth.categories):
        return ["major"]
    if class_counts is not None:
        by_id = {c.id: count for c, count in zip(truth.categories, class_counts, strict=True)}
        return strata.frequency_groups([by_id[i] for i in sorted(by_id)])
    return strata.frequency_groups(errors.truths_by_video(measured, len(names)).sum(0).tolist())


def _per_class(
    names: list[str],
    curves: ap.PrecisionRecall,
    measured: list[MeasuredVideo],
    counts: dict[int, hota.TrackingCounts],
    frequency: list[str],
) -> dict[str, ClassReport]:
    tracks = errors.truths_by_video(measured, len(names)).sum(0)
    labels = np.concatenate([np.zeros(0, np.int64), *(video.label for video in measured)])
    results = np.bincount(labels, minlength=len(names))
    rows = {}
    for k, name in enumerate(names):
        precision = curves.precision[:, :, k, 0, -1]
        mine = counts.get(k, hota.TrackingCounts())
        rows[name] = ClassReport(
            name,
            int(tracks[k]),
            int(results[k]),
            frequency[k],
            ap.mean_valid(precision),
            ap.mean_valid(precision[0]),
            ap.mean_valid(precision[5]),
            ap.mean_valid(curves.recall[:, k, 0, 1]),
            hota.tracking_scores(mine),
            return_scores(mine.returns),
        )
    return rows


def _tracking_counts(
    measured: list[MeasuredVideo],
) -> tuple[hota.TrackingCounts, dict[int, hota.TrackingCounts]]:
    """For all classes together, and for each class."""
    total, of_class = hota.TrackingCounts(), dict[int, hota.TrackingCounts]()
    for video in measured:
        for k, counts in video.counts.items():
            total = total + counts
            of_class[k] = of_class.get(k, hota.TrackingCounts()) + counts
    return total, of_class


def _splits(truth: GroundTruth, measured: list[MeasuredVideo], classes: int) -> dict[str, dict[str, float]]:
    if len(truth.splits) < 2:
        return {}
    found = {}
    for split in truth.splits:
        mine = [video for video in measured if truth.split_of[video.video] is split]
        found[split.name] = ap.summarise(ap.accumulate(_joined(mine, classes)))
    return found


def _strata(curves: ap.PrecisionRecall, frequency: list[str]) -> dict[str, dict[str, float]]:
    """AP by kind and name of stratum, without the kinds that the truth says nothing about."""
    found: dict[str, dict[str, float]] = {}
    for s, (kind, name) in enumerate(strata.NAMES):
        found.setdefault(kind, {})[name] = ap.mean_valid(curves.precision[:, :, :, s, -1])
    found["frequency"] = {
        name: ap.mean_valid(curves.precision[:, :, [k for k, f in enumerate(frequency) if f == name], 0, -1])
        for name in strata.FREQUENCIES
    }
    return {kind: rows for kind, rows in found.items() if max(rows.values()) > -1}


def _error_costs(measured: list[MeasuredVideo], classes: int) -> dict[str, ErrorCost]:
    values, counts = errors.ap_gains(measured, classes)
    if np.isnan(values).all():
        return {}
    mean, half = np.nanmean(values, (1, 2)), np.nanmean(values[:, 0], 1)
    return {
        name: ErrorCost(float(mean[c + 1] - mean[0]), float(half[c + 1] - half[0]), int(counts[c, 0]))
        for c, name in enumerate(CAUSES)
    }
