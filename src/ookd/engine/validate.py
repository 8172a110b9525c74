"""How good a model is on a source of videos, the same way for online and offline models.

Validation leaves training as it was: it works on a copy of the weights, and what it draws by chance does not
count. Several processes share the videos; the first one counts the points.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
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
        model: Network,
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
        categories = category_ids(self.source, self.names)
        constants = family_of(model).tracker.changed(self.constants)
        videos = recordings(self.source)[: self.videos]
        with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16"):
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
