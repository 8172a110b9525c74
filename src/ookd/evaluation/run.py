"""From files to a report: every video measured, here or in several processes, then scored together."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from ookd.errors import UserError
from ookd.evaluation.hota import MIN_SCORE
from ookd.evaluation.predictions import Predictions, complain, load_predictions
from ookd.evaluation.records import NotCut
from ookd.evaluation.report import Report, make_report
from ookd.evaluation.truth import Truth, load_truth
from ookd.evaluation.video import Measured, Rules, measure
from ookd.structures import Dataset, TrackResult

Given = str | Path | Dataset | Sequence[str | Path]
Results = str | Path | Sequence[TrackResult] | Sequence[str | Path]
_CHUNK = 4  # videos a process takes at a time


def evaluate(
    gt: Given,
    pred: Results,
    *,
    lenient: bool = False,
    official_quirks: bool = False,
    class_agnostic: bool = False,
    min_score: float = MIN_SCORE,
    class_counts: Sequence[int] | None = None,
    processes: int = 1,
    watch: Callable[[float], None] = lambda share: None,
) -> Report:
    """Score predicted tracks against ground truth.

    `gt` is an annotation file (or several splits of one benchmark, or a `Dataset`), `pred` a result list in
    one or several files or in memory. Entries that do not fit the truth raise `UserError` with one line each;
    `lenient` drops them and counts them. `official_quirks` repeats the official program's defects, to the
    bit. `class_agnostic` scores all classes as one. `min_score` is for HOTA, IDF1 and MOTA. `class_counts`
    says how frequent each class is in training, in the order of the categories; without it the truth is
    counted. `watch` is told the share that is done.
    """
    rules = Rules(official_quirks, class_agnostic, min_score)
    _reuse_memory()
    try:
        truth, predictions, videos, dropped = _measured(gt, pred, rules, processes, watch, whole=False)
    except NotCut:
        truth, predictions, videos, dropped = _measured(gt, pred, rules, processes, watch, whole=True)
    if wrong := [fault for video in videos for fault in video.truth_faults]:
        raise complain(f"{len(wrong)} records of the ground truth are damaged", wrong)
    if official_quirks and not predictions.count:
        raise UserError("the result list is empty, which the official program does not survive")
    if dropped and not lenient:
        raise complain(
            f"{len(dropped)} entries do not fit the ground truth (lenient leaves them out)", dropped
        )
    return make_report(truth, predictions, videos, rules, dropped, class_counts)


def _reuse_memory() -> None:
    """Free a large block: from then on glibc keeps freed memory for the next arrays.

    Otherwise each video's arrays are given back to the system and faulted in anew, a tenth of the time.
    """
    np.empty(30 << 20, np.uint8)


def _measured(
    gt: Given,
    pred: Results,
    rules: Rules,
    processes: int,
    watch: Callable[[float], None],
    whole: bool,
) -> tuple[Truth, Predictions, list[Measured], list[str]]:
    """Everything read and compared, and complaints about entries that were left out."""
    truth, predictions = load_truth(gt, whole), load_predictions(pred, whole)
    videos: list[Measured] = []
    for video in _each(truth, predictions, rules, processes):
        videos.append(video)
        watch(len(videos) / len(truth.videos))
    dropped = predictions.strays(truth.videos) + [fault for video in videos for fault in video.faults]
    return truth, predictions, videos, dropped


def _each(truth: Truth, predictions: Predictions, rules: Rules, processes: int) -> Iterator[Measured]:
    videos = list(truth.videos)
    if processes < 2:
        for video in videos:
            yield measure(truth.videos[video], truth, predictions, rules)
        return
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    with ProcessPoolExecutor(
        processes, multiprocessing.get_context(method), _share, (truth, predictions, rules)
    ) as pool:
        yield from pool.map(_measure_shared, videos, chunksize=_CHUNK)


_shared: tuple[Truth, Predictions, Rules]


def _share(truth: Truth, predictions: Predictions, rules: Rules) -> None:
    """Hand a process what all its videos need, once."""
    global _shared
    _shared = (truth, predictions, rules)
    gc.freeze()
    gc.disable()  # measuring makes many objects and no cycles


def _measure_shared(video: int) -> Measured:
    truth, predictions, rules = _shared
    return measure(truth.videos[video], truth, predictions, rules)
