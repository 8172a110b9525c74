"""The answer of an evaluation, as one typed object and as plain data for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ookd.evaluation import ap, errors, hota, strata
from ookd.evaluation.blame import CAUSES
from ookd.evaluation.predictions import Predictions
from ookd.evaluation.truth import Truth
from ookd.evaluation.video import Measured, Rules


@dataclass(frozen=True, slots=True)
class ClassReport:
    """One class; AP is -1 where it has no true track."""

    name: str
    tracks: int
    predictions: int
    frequency: str  # minor, middle or major
    ap: float
    ap50: float
    ap75: float
    ar10: float
    tracking: hota.Tracking


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause of lost AP: what mending it alone would add, and how often it occurs at IoU 0.5."""

    ap: float
    ap50: float
    count: int


@dataclass(slots=True)
class Report:
    """What `ookd.evaluate` answers. AP and its kin are in 0..1, -1 where nothing counts."""

    summary: dict[str, float]  # the twelve official numbers
    per_class: dict[str, ClassReport]
    splits: dict[str, dict[str, float]]  # the twelve for each annotation file, where there are several
    strata: dict[str, dict[str, float]]  # AP by length, occlusion and frequency
    tracking: hota.Tracking  # all classes' masks together
    errors: dict[str, Cause]
    videos: int
    tracks: int
    predictions: int  # that were scored
    dropped: list[str]  # entries left out and why
    min_score: float  # of the predictions that tracking measures look at
    curves: ap.Curves = field(repr=False)  # strata: the four official area ranges
    measured: list[Measured] = field(repr=False)
    truth: Truth = field(repr=False)
    entries: Predictions = field(repr=False)

    @property
    def ap(self) -> float:
        return self.summary["AP"]

    def as_dict(self) -> dict[str, Any]:
        """Plain data: everything but the curves and what they were made from."""
        return {
            "summary": self.summary,
            "splits": self.splits,
            "strata": self.strata,
            "tracking": asdict(self.tracking) | {"min_score": self.min_score},
            "errors": {name: asdict(cause) for name, cause in self.errors.items()},
            "per_class": {name: asdict(row) for name, row in self.per_class.items()},
            "videos": self.videos,
            "tracks": self.tracks,
            "predictions": self.predictions,
            "dropped": len(self.dropped),
        }

    def save_html(self, path: str | Path, frames: str | Path | None = None) -> None:
        """Write the report as one self-contained page; `frames` is where the videos' frames are."""
        from ookd.reports.page import write_page

        write_page(self, Path(path), None if frames is None else Path(frames))


def make_report(
    truth: Truth,
    entries: Predictions,
    measured: list[Measured],
    rules: Rules,
    dropped: list[str],
    class_counts: Sequence[int] | None,
) -> Report:
    """Score measured videos together."""
    categories = sorted(truth.categories, key=lambda category: category.id)
    names = ["all classes"] if rules.class_agnostic else [category.name for category in categories]
    curves = ap.accumulate(_outcomes(measured, len(names)))
    frequency = _frequency(truth, names, measured, class_counts)
    counts, of_class = _tracking_counts(measured)
    return Report(
        summary=ap.summarise(curves),
        per_class=_per_class(names, curves, measured, of_class, frequency),
        splits=_splits(truth, measured, len(names)),
        strata=_strata(curves, frequency),
        tracking=hota.measures(counts),
        errors=_causes(measured, len(names)),
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


def _outcomes(measured: list[Measured], classes: int) -> ap.Outcomes:
    strata_count = len(strata.NAMES)
    truths = np.zeros((strata_count, classes), np.int64)
    for video in measured:
        s, g = np.nonzero(~(video.truth_outside | video.crowd))
        np.add.at(truths, (s, video.truth_label[g]), 1)
    empty = np.zeros((strata_count, len(ap.IOU_THRESHOLDS), 0), np.uint8)
    return ap.Outcomes(
        np.concatenate([np.zeros(0, np.int64), *(video.label for video in measured)]),
        np.concatenate([np.zeros(0), *(video.score for video in measured)]),
        np.concatenate([np.zeros(0, np.int64), *(video.matched.rank for video in measured)]),
        np.concatenate([empty, *(video.matched.outcome for video in measured)], 2),
        truths,
    )


def _official(curves: ap.Curves) -> ap.Curves:
    areas = len(ap.AREA_RANGES)
    return ap.Curves(
        curves.precision[:, :, :, :areas], curves.recall[:, :, :areas], curves.scores[:, :, :, :areas]
    )


def _frequency(
    truth: Truth, names: list[str], measured: list[Measured], class_counts: Sequence[int] | None
) -> list[str]:
    """Each class's frequency group, in the order of ids."""
    if len(names) != len(truth.categories):
        return ["major"]
    if class_counts is not None:
        by_id = {c.id: count for c, count in zip(truth.categories, class_counts, strict=True)}
        return strata.frequency_groups([by_id[i] for i in sorted(by_id)])
    return strata.frequency_groups(errors.truths_by_video(measured, len(names)).sum(0).tolist())


def _per_class(
    names: list[str],
    curves: ap.Curves,
    measured: list[Measured],
    counts: dict[int, hota.Counts],
    frequency: list[str],
) -> dict[str, ClassReport]:
    tracks = errors.truths_by_video(measured, len(names)).sum(0)
    labels = np.concatenate([np.zeros(0, np.int64), *(video.label for video in measured)])
    results = np.bincount(labels, minlength=len(names))
    rows = {}
    for k, name in enumerate(names):
        precision = curves.precision[:, :, k, 0, -1]
        rows[name] = ClassReport(
            name,
            int(tracks[k]),
            int(results[k]),
            frequency[k],
            ap.mean_valid(precision),
            ap.mean_valid(precision[0]),
            ap.mean_valid(precision[5]),
            ap.mean_valid(curves.recall[:, k, 0, 1]),
            hota.measures(counts.get(k, hota.Counts())),
        )
    return rows


def _tracking_counts(measured: list[Measured]) -> tuple[hota.Counts, dict[int, hota.Counts]]:
    """Of all classes together, and of each."""
    total, of_class = hota.Counts(), dict[int, hota.Counts]()
    for video in measured:
        for k, counts in video.counts.items():
            total = total + counts
            of_class[k] = of_class.get(k, hota.Counts()) + counts
    return total, of_class


def _splits(truth: Truth, measured: list[Measured], classes: int) -> dict[str, dict[str, float]]:
    if len(truth.sources) < 2:
        return {}
    found = {}
    for source in truth.sources:
        mine = [video for video in measured if truth.split[video.video] is source]
        found[source.name] = ap.summarise(ap.accumulate(_outcomes(mine, classes)))
    return found


def _strata(curves: ap.Curves, frequency: list[str]) -> dict[str, dict[str, float]]:
    """AP by kind and name of stratum; kinds of which nothing is known are left out."""
    found: dict[str, dict[str, float]] = {}
    for s, (kind, name) in enumerate(strata.NAMES):
        found.setdefault(kind, {})[name] = ap.mean_valid(curves.precision[:, :, :, s, -1])
    found["frequency"] = {
        name: ap.mean_valid(curves.precision[:, :, [k for k, f in enumerate(frequency) if f == name], 0, -1])
        for name in strata.FREQUENCIES
    }
    return {kind: rows for kind, rows in found.items() if max(rows.values()) > -1}


def _causes(measured: list[Measured], classes: int) -> dict[str, Cause]:
    values, counts = errors.prices(measured, classes)
    if np.isnan(values).all():
        return {}
    mean, half = np.nanmean(values, (1, 2)), np.nanmean(values[:, 0], 1)
    return {
        name: Cause(float(mean[c + 1] - mean[0]), float(half[c + 1] - half[0]), int(counts[c, 0]))
        for c, name in enumerate(CAUSES)
    }
