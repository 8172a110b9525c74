"""Scores a model on a source of videos, in the same way for online and offline models.

Models compute in single precision, as in `ookd predict`, whatever `run.precision` says of training; so both
give the same scores. Several processes share the videos. The first one computes the scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accelerate.utils import gather_object

from ookd.clips.opening import open_source
from ookd.clips.sources import DatasetClips
from ookd.config import DataSource, Recipe
from ookd.evaluation.report import Report
from ookd.evaluation.run import evaluate
from ookd.models.families import family_of
from ookd.models.protocols import Network
from ookd.structures import Dataset, TrackResult
from ookd.tracking.predict import predict_video
from ookd.tracking.recordings import category_ids, recordings


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
        model: Network,
        rank: int,
        world: int,
        class_counts: Mapping[str, int],
        stop: Callable[[], bool] = lambda: False,
    ) -> Validated | None:
        """The report in the first process; None in the others, and if `stop` ended it early.

        `class_counts` is the number of training tracks of each class. `stop` is called after each video,
        equally often in every process, and must return the same in all.
        """
        found: list[TrackResult] = []
        categories = category_ids(self.source, self.names)
        constants = family_of(model).tracker.changed(self.constants)
        videos = recordings(self.source)[: self.videos]
        for first in range(0, len(videos), world):  # as often in every process
            for video in videos[first : first + world][rank : rank + 1]:
                found += predict_video(model, video, constants, categories)
            if stop():
                return None
        results: list[TrackResult] = gather_object(found)
        if rank:
            return None
        counts = [class_counts.get(category.name, 0) for category in self.truth.categories]
        return Validated(evaluate(self.truth, results, class_counts=counts), results)
