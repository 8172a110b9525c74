"""Trains one model into a folder, once: finished work is kept, interrupted work goes on."""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from learning.claim import claimed
from ookd.config import Recipe
from ookd.engine.build import make_model
from ookd.engine.run import run
from ookd.files import write_file
from ookd.models import zoo
from steps import Steps, shortened


def now() -> float:
    """Seconds of computing on a CPU, whatever else it does; on a GPU those of the clock."""
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
        write_file(clock, json.dumps(seconds))
    saved = zoo.load(outcome.model)
    zoo.save_pretrained(saved.model.half(), outcome.model, saved.names, saved.tracker, overwrite=True)
    facts = {"steps": outcome.steps, "seconds": round(seconds, 1)}
    write_file(done, json.dumps(facts))
    shutil.rmtree(folder / "checkpoints")
    clock.unlink()
    return facts


def common_start(recipe: Recipe, names: list[str], folder: Path) -> Path:
    """The weights from which all arms start: those of the recipe, with random ones drawn once."""
    with claimed(folder, wait=True):
        if not (folder / zoo.CONFIG).exists():
            torch.manual_seed(0)
            model = make_model(recipe.model, len(names))
            zoo.save_pretrained(model, folder, names, recipe.tracker, overwrite=True)
    return folder


def step_cost(recipe: Recipe, clock: Callable[[], float] = now) -> float:
    """Seconds of one step, reading included."""
    data = recipe.data.model_copy(update={"workers": 0})
    short = shortened(recipe.model_copy(update={"data": data}), 24)
    with tempfile.TemporaryDirectory() as folder:
        steps = Steps(short, folder, clock=clock, warm_up=9)
        steps.trainer.fit()
    return statistics.median(steps.seconds())
