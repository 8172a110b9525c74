"""How good a finished model is: constants are chosen on the tuning split, scores are of the test split.

Enough is kept of each test video to resample videos later: every prediction's score, class and outcome, the
true tracks of each class, the identity switches, and the number of masks in which they can occur.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from learning.splits import Split
from ookd.config.tracker import TrackerConfig
from ookd.evaluation.ap import MAX_DETECTIONS
from ookd.evaluation.errors import truths_by_video
from ookd.evaluation.report import Report
from ookd.evaluation.run import evaluate
from ookd.models import zoo
from ookd.models.families import family_of
from ookd.structures import TrackResult
from ookd.tracking.predict import predict
from ookd.tune.replay import Cache, average_precision
from ookd.tune.search import cache_queries, tune

TUBE_NMS = (0.5, 0.6, 0.8)  # tried for a teacher, which has no other constant that matters


@dataclass(frozen=True, slots=True)
class Conditions:
    """The same for all arms."""

    splits: Mapping[str, Split]
    trials: int  # sets of tracker constants tried
    seed: int  # of that search
    half: bool  # bf16 arithmetic


@dataclass(slots=True)
class Outcomes:
    """N predictions for V test videos of K classes, and their outcomes at T thresholds."""

    label: NDArray[np.int16]  # [N]
    video: NDArray[np.int32]  # [N]
    score: NDArray[np.float32]  # [N]
    outcome: NDArray[np.uint8]  # [T, N]
    truths: NDArray[np.int64]  # [V, K] true tracks that count
    switches: NDArray[np.int64]  # [V]
    found: NDArray[np.int64]  # [V] true masks that a prediction of their class overlaps by half

    def save(self, path: Path) -> None:
        with path.open("wb") as file:
            np.savez_compressed(file, **{name: getattr(self, name) for name in self.__slots__})

    @staticmethod
    def load(path: Path) -> Outcomes:
        with np.load(path) as file:
            return Outcomes(**dict(file))


def judge(model_folder: Path, conditions: Conditions) -> tuple[dict[str, Any], Outcomes]:
    """The scores of a model, and what is kept of its test videos."""
    saved = zoo.load(model_folder, "cuda" if torch.cuda.is_available() else "cpu")
    offline = family_of(saved.model).sees == "clips"
    with torch.autocast(_device(saved), torch.bfloat16, enabled=conditions.half):
        scores, report = (_judge_offline if offline else _judge_online)(saved, conditions)
    outcomes = _outcomes(report)
    rate = float(switch_rate(outcomes.switches.sum(), outcomes.found.sum()))
    return {**_numbers(report), "switch_rate": rate, **scores}, outcomes


def switch_rate(switches: NDArray[Any], found: NDArray[Any]) -> NDArray[np.float64]:
    """Identity switches in 1000 masks that are found."""
    return 1000 * switches / np.maximum(1, found)


def _judge_online(saved: zoo.Saved, conditions: Conditions) -> tuple[dict[str, Any], Report]:
    """With the constants that are best on the tuning split, and with those of the family.

    Without trials only the family's are used.
    """
    start = family_of(saved.model).tracker.changed(saved.tracker)

    def cached(split: str) -> Cache:
        videos = conditions.splits[split]
        return cache_queries(saved.model, videos.source, videos.truth, saved.names, start)

    best, scores = start, {}
    if conditions.trials:
        tuned = tune(cached("tune"), start, conditions.trials, conditions.seed)
        best, scores = tuned.config, {"tune_ap": 100 * tuned.ap}
    scores["constants"] = best.model_dump()
    if "val" in conditions.splits:
        cache = cached("val")
        scores["val_ap"] = 100 * average_precision(cache, best)
        scores["val_ap_default"] = 100 * average_precision(cache, start)

    def report(constants: TrackerConfig) -> Report:
        results = predict(saved.model, conditions.splits["test"].source, constants, saved.names)
        return _report(results, "test", conditions)

    chosen = report(best)
    plain = chosen if best == start else report(start)
    return {**scores, "test_ap_default": 100 * plain.ap}, chosen


def _judge_offline(saved: zoo.Saved, conditions: Conditions) -> tuple[dict[str, Any], Report]:
    def report(split: str, constants: Mapping[str, Any]) -> Report:
        config = family_of(saved.model).tracker.changed(constants)
        results = predict(saved.model, conditions.splits[split].source, config, saved.names)
        return _report(results, split, conditions)

    tried = [{**saved.tracker, "tube_nms": nms} for nms in TUBE_NMS]
    aps = [report("tune", constants).ap for constants in tried]
    chosen = tried[aps.index(max(aps))]
    scores: dict[str, Any] = {"constants": chosen, "tune_ap": 100 * max(aps)}
    for split in conditions.splits.keys() & {"val", "test"}:
        scores[f"{split}_ap_default"] = 100 * report(split, saved.tracker).ap
    if "val" in conditions.splits:
        scores["val_ap"] = 100 * report("val", chosen).ap
    return scores, report("test", chosen)


def _report(results: list[TrackResult], split: str, conditions: Conditions) -> Report:
    truth, learned = conditions.splits[split].truth, conditions.splits["train"].counts
    return evaluate(truth, results, class_counts=[learned.get(c.name, 0) for c in truth.categories])


def _device(saved: zoo.Saved) -> str:
    return next(saved.model.parameters()).device.type


def _numbers(report: Report) -> dict[str, Any]:
    """AP and other scores, in points."""
    tracking = asdict(report.tracking)
    return {
        "test_ap": 100 * report.ap,
        "test_ap50": 100 * report.summary["AP50"],
        **{f"{name}_ap": 100 * value for name, value in report.strata["frequency"].items() if value >= 0},
        "switches": tracking.pop("switches"),
        **{name: 100 * value for name, value in tracking.items()},
        "errors": {name: 100 * cause.ap for name, cause in report.errors.items()},
        "classes": {
            name: {"ap": 100 * row.ap, "frequency": row.frequency} for name, row in report.per_class.items()
        },
    }


def _outcomes(report: Report) -> Outcomes:
    videos = report.measured
    counts = [video.matches.rank < MAX_DETECTIONS[-1] for video in videos]

    def joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate([part[..., kept] for part, kept in zip(parts, counts, strict=True)], -1)

    return Outcomes(
        joined([video.label for video in videos]).astype(np.int16),
        joined([np.full(len(video.label), i) for i, video in enumerate(videos)]).astype(np.int32),
        joined([video.score for video in videos]).astype(np.float32),
        joined([video.matches.outcome[0] for video in videos]),
        truths_by_video(videos, len(report.per_class)),
        np.array([sum(count.switches for count in video.counts.values()) for video in videos], np.int64),
        np.array([sum(count.clear_right for count in video.counts.values()) for video in videos], np.int64),
    )
