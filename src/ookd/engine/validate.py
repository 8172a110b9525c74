"""How good a model is on a source of videos, the same way for online and offline models.

Validation leaves training as it was: it works on a copy of the weights, and what it draws by chance does not
count. Several processes share the videos; the first one counts the points.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import nn

from ookd.clips.opening import open_source
from ookd.clips.sources import ClipSource, DatasetClips
from ookd.config import DataSource, Recipe
from ookd.config.tracker import tracker_config
from ookd.evaluation.report import Report
from ookd.evaluation.run import evaluate
from ookd.structures import Dataset, TrackResult
from ookd.tracking.offline import OfflineConfig, predict_recording
from ookd.tracking.predict import category_ids, predict_video, recordings


@dataclass(slots=True)
class Validated:
    """The report on a model, and its results, for pictures."""

    report: Report
    results: list[TrackResult]


class Validation:
    """The validation videos of a recipe, opened once; a wrong one is noticed before training begins."""

    def __init__(self, recipe: Recipe, data: DataSource, names: Sequence[str]) -> None:
        self.source = open_source(data)
        category_ids(self.source, names)
        self.names = names
        self.videos = recipe.run.val_videos
        self.constants = recipe.tracker
        self.precision = recipe.run.precision
        self._truth: Dataset | None = None

    @property
    def truth(self) -> Dataset:
        """The annotations of the videos that count, drawn or read when first asked for."""
        if self._truth is None:
            source: Any = self.source
            whole = source.dataset if isinstance(source, DatasetClips) else source.dataset()
            self._truth = Dataset(whole.categories, whole.videos[: self.videos], whole.root, whole.name)
        return self._truth

    def measure(
        self,
        model: nn.Module,
        rank: int,
        world: int,
        class_counts: Mapping[str, int],
        stop: Callable[[], bool] = lambda: False,
    ) -> Validated | None:
        """The report, for the first process; None for the others, and when `stop` cut it short.

        `class_counts` says how many tracks of each class there are to learn from. `stop` is asked after each
        video, equally often in every process, and must answer the same in all.
        """
        device = next(model.parameters()).device
        found: list[TrackResult] = []
        part = slice(rank, self.videos, world)
        tracked = track_each(model, self.source, self.constants, self.names, part)
        most = -(-len(recordings(self.source)[: self.videos]) // world)  # videos of a process
        with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            for _ in range(most):
                found += next(tracked, [])
                if stop():
                    return None
        results: list[TrackResult] = gather_object(found)
        if rank:
            return None
        counts = [class_counts.get(category.name, 0) for category in self.truth.categories]
        return Validated(evaluate(self.truth, results, class_counts=counts), results)


def track_all(model: nn.Module, source: ClipSource, constants: Mapping[str, Any]) -> list[TrackResult]:
    """Results of an online model through the tracker, its constants changed so, or of an offline model."""
    return list(chain.from_iterable(track_each(model, source, constants, source.names)))


def track_each(
    model: nn.Module,
    source: ClipSource,
    constants: Mapping[str, Any],
    names: Sequence[str],
    part: slice = slice(None),
) -> Iterator[list[TrackResult]]:
    """The results of one video after the other; `names` are the model's classes."""
    categories = category_ids(source, names)
    config: Any = model.config
    if getattr(model, "offline", False):
        settings = OfflineConfig.model_validate(dict(constants))
        for recording in recordings(source)[part]:
            yield list(predict_recording(model, recording, settings, categories))
    else:
        tracker = tracker_config(config.family, constants)
        for recording in recordings(source)[part]:
            yield list(predict_video(model, recording, tracker).tracks(recording.id, categories))


@contextmanager
def undisturbed() -> Iterator[None]:
    """Whatever is drawn by chance within, training goes on with the numbers that it would have drawn."""
    python, numbers, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)  # noqa: NPY002
        torch.set_rng_state(torch_state)
        if gpus:
            torch.cuda.set_rng_state_all(gpus)
