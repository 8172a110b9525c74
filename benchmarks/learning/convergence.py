"""The quality of a student after a number of minutes of training.

Every budget is a run whose schedule ends with it. While the learning rate is held, the run of a longer budget
is that of a shorter one, to the bit. So each budget continues from where the rate of the one before started
to fall, and its time still counts from the first step. The number of steps comes from a short timed run.
Tracker constants are tuned on the tuning split, AP is that of the test split.

Finished work is kept, so an interrupted benchmark continues, and several processes can do different seeds in
one --out. Time is processor time of this process, all its cores together: give `--set data.workers=0`. With
--clock it is wall-clock time, for a machine with no other work.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from learning.judge import Conditions, judge
from learning.splits import Split
from learning.training import now, step_cost
from measuring import Table
from ookd import config
from ookd.config import Recipe, WorldData
from ookd.engine.checkpoint import newest
from ookd.engine.run import run as run_recipe
from ookd.engine.run_log import RECIPE
from ookd.errors import UserError
from ookd.files import write_file

RESULT = "result.json"  # of a budget and seed, in its folder


def options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--recipe", default="nano-ytvis-like")
    add("--minutes", type=float, nargs="+", default=[2, 5, 10])
    add("--seeds", type=int, nargs="+", default=[0, 1])
    add("--tune-videos", type=int, default=100)
    add("--test-videos", type=int, default=100)
    add("--trials", type=int, default=60)
    add("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    add("--clock", action="store_true", help="minutes of the clock, not of processor time")
    add("--out", type=Path, default=Path("runs/convergence"))


def run(given: argparse.Namespace) -> None:
    base = [*given.changes, "data.val=null"]
    clock = time.perf_counter if given.clock else now
    cost = 0.0
    for seed in given.seeds:
        before: Path | None = None
        for minutes in sorted(given.minutes):
            folder = given.out / f"{minutes:g}min-seed{seed}"
            if not (folder / RESULT).exists():
                cost = cost or step_cost(config.load(given.recipe, base), clock)
                steps = max(20, round(60 * minutes / cost))
                recipe = config.load(given.recipe, [*base, f"run.seed={seed}", f"run.steps={steps}"])
                row = {"minutes": minutes, "seed": seed, **train(recipe, folder, before, clock)}
                row |= scores(folder / "model", recipe, given)
                write_file(folder / RESULT, json.dumps(row, indent=1))
            before = folder
    rows = [json.loads(path.read_text()) for path in sorted(given.out.glob(f"*/{RESULT}"))]
    aps = ["track AP, tuned constants", "track AP, constants of the family"]
    with Table(given, {"minutes": "g", **dict.fromkeys(["measured", "steps", *aps], "")}) as table:
        for minutes in sorted({row["minutes"] for row in rows}):
            own = sorted((row for row in rows if row["minutes"] == minutes), key=lambda row: row["seed"])
            taken = " / ".join(f"{row['trained_s'] / 60:.1f}" for row in own)
            steps = " / ".join(str(row["steps"]) for row in own)
            cells = [
                f"{statistics.mean(ap):.1f} ({' / '.join(f'{x:.1f}' for x in ap)})"
                for ap in ([row[name] for row in own] for name in ("ap_tuned", "ap"))
            ]
            table.add(minutes, taken, steps, *cells)


def train(
    recipe: Recipe, folder: Path, before: Path | None, clock: Callable[[], float] = now
) -> dict[str, Any]:
    """Train into `folder`, from the end of the held rate of the run before; steps and seconds in all."""
    held = held_steps(recipe)
    run_of = recipe.run.model_copy(update={"save_every": held, "keep": recipe.run.steps // held + 1})
    recipe = recipe.model_copy(update={"run": run_of})
    if before is not None:
        go_on(before, folder)
    found, _ = newest(folder / "checkpoints")
    began = clock()
    outcome = run_recipe(recipe, folder)
    seconds = (clock() - began) / (outcome.steps - (found.step if found else 0)) * outcome.steps
    return {"steps": outcome.steps, "trained_s": round(seconds, 1)}


def held_steps(recipe: Recipe) -> int:
    """Steps before the learning rate depends on how many there are in all."""
    if recipe.optim.schedule == "step":
        raise UserError("optim.schedule: step does not end with a budget; choose linear or cosine")
    return max(1, int(recipe.optim.hold * recipe.run.steps))


def go_on(before: Path, folder: Path) -> None:
    """Start `folder`, unless it has a checkpoint, with that of the run before when its rate began to fall."""
    name = f"step-{held_steps(config.load(str(before / RECIPE))):08d}"
    if not (folder / "checkpoints").exists():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(before / "metrics.jsonl", folder)
        shutil.copytree(before / "checkpoints" / name, folder / "checkpoints" / name)


def scores(model: Path, recipe: Recipe, given: argparse.Namespace) -> dict[str, Any]:
    """AP on the test split, with the family's constants and with those tuned on the tuning split."""
    world = recipe.data.train[0]
    assert isinstance(world, WorldData)
    videos = {"train": world.videos, "tune": given.tune_videos, "test": given.test_videos}
    splits = {
        split: Split(world.model_copy(update={"split": split, "videos": count}))
        for split, count in videos.items()
    }
    judged, _ = judge(model, Conditions(splits, given.trials, seed=0, half=True))
    found = {"ap": "test_ap_default", "ap_tuned": "test_ap", "constants": "constants"}
    return {name: judged[key] for name, key in found.items()}
