"""The cost of distillation: time and memory of a training step alone, with a live teacher, and with a cache.

`live` and `cached` use signals over pairs. `frames` uses `pixels` and `shared`, for which a live teacher sees
only the student's frames. Each training has its own process and starts from the same weights on the same
clips of a synthetic world. Seconds are the median step without reading. The cache is filled first.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from measuring import Table, apart, peak_memory
from ookd import config
from ookd.config import Recipe
from ookd.distill.fill import FillPlan
from ookd.models import zoo
from ookd.models.families import preset
from ookd.worlds import World
from steps import WARM_UP, Steps, shortened


def options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--steps", type=int, default=17, help=f"that count, after {WARM_UP} that do not")
    add("--videos", type=int, default=24)
    add("--length", type=int, default=8, help="frames of the teacher's clip")
    add("--device", default="cpu", choices=["cpu", "auto"])
    add("--seed", type=int, default=0)


def run(given: argparse.Namespace) -> None:
    columns = {"training": "", "s a step": ".3f", "against plain": ".2f", "peak memory, MB": ".0f"}
    with tempfile.TemporaryDirectory() as folder, Table(given, columns) as table:
        save_teacher(Path(folder, "teacher"))
        seconds, size = apart(fill, recipe(Path(folder), "cached", given), given.device)
        plain = 0.0
        for name in ("plain", "frames", "live", "cached"):
            step, memory = apart(train, recipe(Path(folder), name, given), given)
            plain = plain or step
            table.add(name, step, step / plain, memory)
        table.note(f"filling the cache: {seconds:.1f} s for {given.videos} videos, {size / 1e6:.1f} MB")


def save_teacher(folder: Path) -> None:
    """Untrained: the time does not depend on what it says."""
    names = list(World("ytvis-like").names)
    zoo.save_pretrained(zoo.build(preset("nano-clip", classes=len(names))), folder, names)


def recipe(folder: Path, training: str, given: argparse.Namespace) -> Recipe:
    # no threshold on the score, so that everything an untrained teacher says is used
    rule = "filter: {kind: sure, min_score: 0}, associate: prediction, pair_iou: 0"
    names = ("pixels", "shared") if training == "frames" else ("relation", "class", "mask")
    signals = f"signals: {{{', '.join(f'{name}: {{weight: 1}}' for name in names)}}}"
    cache = f"cache: {folder / 'cache'}, " if training == "cached" else ""
    distill = f"{{teacher: {folder / 'teacher'}, {cache}{rule}, {signals}}}"
    changes = [
        "model.pretrained=false",
        f"data.train.0.videos={given.videos}",
        f"data.frames={{kind: distill, length: {given.length}}}",
        f"distill={'null' if training == 'plain' else distill}",
    ]
    return config.load("nano-distill", changes)


def fill(recipe: Recipe, device: str) -> tuple[float, int]:
    """Seconds it takes, and bytes."""
    began = time.perf_counter()
    plan = FillPlan(recipe, device)
    plan.run()
    return time.perf_counter() - began, plan.cache.bytes


def train(recipe: Recipe, given: argparse.Namespace) -> tuple[float, float]:
    """Seconds a step without reading, and the most megabytes in use."""
    recipe = shortened(recipe, given.steps + WARM_UP, threads=given.threads, seed=given.seed)
    with tempfile.TemporaryDirectory() as folder:
        steps = Steps(recipe, folder, given.device == "cpu")
        steps.trainer.fit()
    return statistics.median(steps.seconds(reading=False)), peak_memory() / 1e6
