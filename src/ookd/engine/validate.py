"""Scores a model on a source of videos, in the same way for online and offline models.

Several processes share the videos. The first one computes the scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from accelerate.utils import gather_object

from ookd.clips.opening import open_source
from ookd.clips.sources import ClipSource, DatasetClips
from ookd.config import DataSource, Recipe
from ookd.evaluation.report import Report
from ookd.evaluation.run import evaluate
from ookd.models.families import offline_config, tracker_config
from ookd.models.protocols import Model, OfflineModel, OnlineModel
from ookd.structures import Dataset, TrackResult
from ookd.tracking.offline import predict_recording
from ookd.tracking.predict import category_ids, predict_video, recordings


@dataclass(slots=True)
class Validated:
    """The report on a model, and its results for pictures."""

    report: Report
    results: list[TrackResult]


class Validation:
    """The validation videos of a recipe, opened before training begins so that errors show early."""

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
        """The annotations of the videos, generated or read on first use."""
        if self._truth is None:
            source: Any = self.source
            whole = source.dataset if isinstance(source, DatasetClips) else source.dataset()
            self._truth = Dataset(whole.categories, whole.videos[: self.videos], whole.root, whole.name)
        return self._truth

    def measure(
        self,
        model: Model,
        rank: int,
        world: int,
        class_counts: Mapping[str, int],
        stop: Callable[[], bool] = lambda: False,
    ) -> Validated | None:
        """The report in the first process; None in the others, and if `stop` ended it early.

        `class_counts` is the number of training tracks of each class. `stop` is called after each video,
        equally often in every process, and must return the same in all.
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


def track_all(model: Model, source: ClipSource, constants: Mapping[str, Any]) -> list[TrackResult]:
    """Results of an online model with its tracker or of an offline model. `constants` change defaults."""
    return list(chain.from_iterable(track_each(model, source, constants, source.names)))


def track_each(
    model: Model,
    source: ClipSource,
    constants: Mapping[str, Any],
    names: Sequence[str],
    part: slice = slice(None),
) -> Iterator[list[TrackResult]]:
    """The results of one video after another. `names` are the classes of the model."""
    categories = category_ids(source, names)
    family = model.config.family
    if isinstance(model, OfflineModel):
        settings = offline_config(family, constants)
        for recording in recordings(source)[part]:
            yield list(predict_recording(model, recording, settings, categories))
    elif isinstance(model, OnlineModel):
        tracker = tracker_config(family, constants)
        for recording in recordings(source)[part]:
            yield list(predict_video(model, recording, tracker).tracks(recording.id, categories))
