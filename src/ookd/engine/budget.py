"""How many steps fit into so many minutes: a few are timed, and the run is planned with what they took.

The plan is a recipe like any other. Its schedule ends with it, and it can be resumed exactly.
"""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from ookd.config import Distill, Recipe, Signal
from ookd.engine.loop import Trainer
from ookd.engine.run_log import RunLog
from ookd.engine.validate import Validation
from ookd.errors import UserError

WARM_UP = 3  # first steps, in which memory is laid out and kernels are chosen
TIMED = 8  # steps after them
LEAST = 10  # steps of a run


class _Clock(RunLog):
    """When each step ended."""

    def __init__(self, recipe: Recipe, out: Path) -> None:
        super().__init__(recipe, out, quiet=True)
        self.ends: list[float] = []

    def step(self, *arguments: Any) -> dict[str, float]:
        self.ends.append(time.perf_counter())
        return super().step(*arguments)


def within(recipe: Recipe, minutes: float, cpu: bool) -> Recipe:
    """The recipe with as many steps as fit, validation and this planning included."""
    began = time.perf_counter()
    step, validation = _costs(recipe, cpu)
    left = 60 * minutes - (time.perf_counter() - began) - validation
    if recipe.run.validate_every is not None:
        step += validation / recipe.run.validate_every
    steps = int(left / step)
    if steps < LEAST:
        spent = time.perf_counter() - began
        raise UserError(
            f"{minutes:g} minutes are too few: planning took {spent:.0f} s, a step takes {step:.2g} s, a "
            f"validation {validation:.0f} s; give more time, smaller frames or fewer videos"
        )
    return planned(recipe, steps)


def planned(recipe: Recipe, steps: int) -> Recipe:
    """The recipe with so many steps, its schedule stretched or shortened with them."""
    ratio = steps / recipe.run.steps
    optim = recipe.optim.model_copy(
        update={
            "warmup": min(recipe.optim.warmup, steps // 10),
            "milestones": [round(ratio * step) for step in recipe.optim.milestones],
        }
    )
    run = recipe.run.model_copy(update={"steps": steps})
    distill = None if recipe.distill is None else _stretched(recipe.distill, ratio)
    return recipe.model_copy(update={"optim": optim, "run": run, "distill": distill})


def as_begun(recipe: Recipe, before: Recipe) -> Recipe:
    """The recipe as it was planned when its run began."""
    return planned(recipe, before.run.steps)


def _stretched(distill: Distill, ratio: float) -> Distill:
    def stretched(signal: Signal) -> Signal:
        until = None if signal.until is None else max(1, round(ratio * signal.until))
        warmup, decay = round(ratio * signal.warmup), max(1, round(ratio * signal.decay))
        return signal.model_copy(update={"warmup": warmup, "until": until, "decay": decay})

    signals = {name: stretched(signal) for name, signal in distill.signals.items()}
    return distill.model_copy(update={"signals": signals})


def _costs(recipe: Recipe, cpu: bool) -> tuple[float, float]:
    """Seconds of a step, and of a validation."""
    steps = WARM_UP + TIMED
    run = recipe.run.model_copy(update={"steps": steps, "save_every": steps, "trackers": []})
    with TemporaryDirectory() as folder:
        clock = _Clock(recipe.model_copy(update={"run": run}), Path(folder))
        trainer = Trainer(clock.recipe, Path(folder), clock, cpu)
        trainer.fit()
        step = median(end - begin for begin, end in pairwise(clock.ends[WARM_UP - 1 :]))
        return step, _validation_cost(recipe, trainer)


def _validation_cost(recipe: Recipe, trainer: Trainer) -> float:
    """Judged by the first video."""
    if recipe.data.val is None:
        return 0.0
    first = recipe.model_copy(update={"run": recipe.run.model_copy(update={"val_videos": 1})})
    one, all_of_them = (Validation(part, recipe.data.val, trainer.names) for part in (first, recipe))
    model = trainer.trained()
    began = time.perf_counter()
    one.measure(model, rank=0, world=1, class_counts={})
    frames = [sum(video.length for video in part.truth.videos) for part in (one, all_of_them)]
    return (time.perf_counter() - began) * frames[1] / frames[0]
