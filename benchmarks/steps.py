"""Training steps of a recipe, with the seconds that each took."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from ookd.config import Recipe
from ookd.engine.loop import Trainer
from ookd.engine.run_log import RunLog

WARM_UP = 3  # first steps, in which memory is laid out and kernels are chosen


class Steps(RunLog):
    """A trainer, and what its steps took by `clock`; the first ones do not count."""

    def __init__(
        self,
        recipe: Recipe,
        folder: str | Path,
        cpu: bool = False,
        clock: Callable[[], float] = time.perf_counter,
        warm_up: int = WARM_UP,
    ) -> None:
        super().__init__(recipe, Path(folder), quiet=True)
        self.trainer = Trainer(recipe, Path(folder), self, cpu)
        self.clock, self.warm_up = clock, warm_up
        self.frames = 0  # of a step
        self._ends: list[float] = []
        self._spent: list[dict[str, float]] = []

    def step(
        self, step: int, terms: Any, factor: float, norm: float, frames: int, spent: Any
    ) -> dict[str, float]:
        self.frames = frames
        self._ends.append(self.clock())
        self._spent.append(dict(spent))
        return super().step(step, terms, factor, norm, frames, spent)

    def spent(self, part: str) -> list[float]:
        """Seconds that each step spent on "loader", "matcher" or "model"."""
        return [one.get(part, 0.0) for one in self._spent[self.warm_up :]]

    def seconds(self, reading: bool = True) -> list[float]:
        """Of each step, with or without the time for reading."""
        ends = self._ends[self.warm_up - 1 :]
        whole = [b - a for a, b in pairwise(ends)]
        return whole if reading else [a - b for a, b in zip(whole, self.spent("loader"), strict=True)]


def shortened(recipe: Recipe, steps: int, **changes: Any) -> Recipe:
    """The recipe with so many steps and no checkpoint between."""
    run = recipe.run.model_copy(update={"steps": steps, "save_every": steps, **changes})
    return recipe.model_copy(update={"run": run})
