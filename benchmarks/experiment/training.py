"""Trains one model into a folder, once: what is done is kept, what was interrupted goes on."""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from experiment.claim import claimed, write_whole
from ookd.config import Recipe
from ookd.engine.build import make_model
from ookd.engine.loop import Trainer
from ookd.engine.run import run
from ookd.engine.run_log import RunLog
from ookd.models import zoo

_TIMED, _SETTLING = 24, 8  # steps that tell what a step costs, and those before


def now() -> float:
    """Seconds of computing on a CPU, whatever else that does, or of the clock on a GPU."""
    return time.perf_counter() if torch.cuda.is_available() else time.process_time()


def trained(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Train unless done; steps and seconds it took. Checkpoints go, the model stays, in half precision."""
    done = folder / "trained.json"
    if done.exists():
        found: dict[str, Any] = json.loads(done.read_text())
        return found
    print(f"{folder}: training", file=sys.stderr)
    clock = folder / "seconds.json"
    before = json.loads(clock.read_text()) if clock.exists() else 0.0
    began = time.perf_counter()
    try:
        outcome = run(recipe, folder)
    finally:
        seconds = before + time.perf_counter() - began
        write_whole(clock, json.dumps(seconds).encode())
    saved = zoo.load(outcome.model)
    zoo.save_pretrained(saved.model.half(), outcome.model, saved.names, saved.tracker, overwrite=True)
    facts = {"steps": outcome.steps, "seconds": round(seconds, 1)}
    write_whole(done, json.dumps(facts).encode())
    shutil.rmtree(folder / "checkpoints")
    clock.unlink()
    return facts


def common_start(recipe: Recipe, names: list[str], folder: Path) -> Path:
    """The weights from which all arms begin: those of the recipe, what is random in them drawn once."""
    with claimed(folder, wait=True):
        if not (folder / zoo.CONFIG).exists():
            torch.manual_seed(0)
            model = make_model(recipe.model, len(names))
            zoo.save_pretrained(model, folder, names, recipe.tracker, overwrite=True)
    return folder


def step_cost(recipe: Recipe, folder: Path, clock: Callable[[], float] = now) -> float:
    """Seconds of one step."""
    times: list[float] = []

    class Timed(RunLog):
        def step(self, *given: Any) -> dict[str, float]:
            times.append(clock())
            return super().step(*given)

    data = recipe.data.model_copy(update={"workers": 0})  # reading counts as well
    short = recipe.model_copy(
        update={"data": data, "run": recipe.run.model_copy(update={"steps": _TIMED, "save_every": _TIMED})}
    )
    Trainer(short, folder, Timed(short, folder, quiet=True)).fit()
    shutil.rmtree(folder)
    return statistics.median(b - a for a, b in zip(times[_SETTLING:], times[_SETTLING + 1 :], strict=False))
