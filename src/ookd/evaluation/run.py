"""From files to a report: measures every video, in one or several processes, then scores all together."""

from __future__ import annotations

import gc
import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from ookd.errors import UserError
from ookd.evaluation.hota import MIN_SCORE
from ookd.evaluation.json_index import NotIndexable
from ookd.evaluation.predictions import Predictions, load_predictions, problems
from ookd.evaluation.report import Report, make_report
from ookd.evaluation.truth import GroundTruth, load_truth
from ookd.evaluation.video import MeasuredVideo, ScoringRules, measure
from ookd.structures import Dataset, TrackResult

Given = str | Path | Dataset | Sequence[str | Path]
Results = str | Path | Sequence[TrackResult] | Sequence[str | Path]
_CHUNK = 4  # videos a process takes at a time


def evaluate(
    gt: Given,
    pred: Results,
    *,
    split: str | None = None,
    lenient: bool = False,
    official_quirks: bool = False,
    class_agnostic: bool = False,
    min_score: float = MIN_SCORE,
    class_counts: Sequence[int] | None = None,
    processes: int = 1,
    on_progress: Callable[[float], None] = lambda share: None,
) -> Report:
    """Score predicted tracks against ground truth.

    `gt` is an annotation file, several files (splits of one benchmark), a `Dataset`, or anything else that
    `ookd data check` reads, with a `split` where that holds several. `pred` is a result list in memory, in
    one or several files, or in folders that `ookd predict` wrote.

    Entries that do not fit the truth raise a `UserError` with one line each; with `lenient` they are dropped
    and counted. `official_quirks` reproduces the defects of the official program exactly. `class_agnostic`
    scores all classes as one. `min_score` applies to HOTA, IDF1, MOTA and returns. `class_counts` says how
    many training tracks each class has, in the order of the categories; without it, classes are ranked by
    their true tracks. `on_progress` receives the share that is done.
    """
    rules = ScoringRules(official_quirks, class_agnostic, min_score)
    _reuse_memory()
    try:
        found = _measured(gt, split, pred, rules, processes, on_progress, whole=False)
    except NotIndexable:
        found = _measured(gt, split, pred, rules, processes, on_progress, whole=True)
    truth, predictions, videos, dropped = found
    if wrong := [fault for video in videos for fault in video.truth_faults]:
        raise problems(f"{len(wrong)} annotations of the ground truth are damaged", wrong)
    if official_quirks and not predictions.count:
        raise UserError("the result list is empty, which crashes the official program")
    if dropped and not lenient:
        raise problems(
            f"{len(dropped)} entries do not fit the ground truth (use lenient to drop them)", dropped
        )
    return make_report(truth, predictions, videos, rules, dropped, class_counts)


def _reuse_memory() -> None:
    """Allocate and free a large block, after which glibc keeps freed memory for the next arrays.

    Otherwise the arrays of each video go back to the system and are mapped again, which costs a tenth of the
    time.
    """
    np.empty(30 << 20, np.uint8)


def _measured(
    gt: Given,
    split: str | None,
    pred: Results,
    rules: ScoringRules,
    processes: int,
    on_progress: Callable[[float], None],
    whole: bool,
) -> tuple[GroundTruth, Predictions, list[MeasuredVideo], list[str]]:
    """Read and compare everything. The last list names the entries that were left out."""
    truth, predictions = load_truth(gt, split, whole), load_predictions(pred, whole)
    videos: list[MeasuredVideo] = []
    for video in _each(truth, predictions, rules, processes):
        videos.append(video)
        on_progress(len(videos) / len(truth.videos))
    dropped = predictions.strays(truth.videos) + [fault for video in videos for fault in video.faults]
    return truth, predictions, videos, dropped


def _each(
    truth: GroundTruth, predictions: Predictions, rules: ScoringRules, processes: int
) -> Iterator[MeasuredVideo]:
    videos = list(truth.videos)
    if processes < 2:
        for video in videos:
            yield measure(truth.videos[video], truth, predictions, rules)
        return
    method = "fork" if sys.platform == "linux" else "spawn"  # macOS cannot fork a process with threads
    with ProcessPoolExecutor(
        processes, multiprocessing.get_context(method), _share, (truth, predictions, rules)
    ) as pool:
        yield from pool.map(_measure_shared, videos, chunksize=_CHUNK)


_shared: tuple[GroundTruth, Predictions, ScoringRules]


def _share(truth: GroundTruth, predictions: Predictions, rules: ScoringRules) -> None:
    """Give a process, once, what all its videos need."""
    global _shared
    _shared = (truth, predictions, rules)
    gc.freeze()
    gc.disable()  # measuring creates many objects but no cycles


def _measure_shared(video: int) -> MeasuredVideo:
    truth, predictions, rules = _shared
    return measure(truth.videos[video], truth, predictions, rules)
