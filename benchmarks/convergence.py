"""How good a student is after so many minutes of training, on a CPU of processor time.

    python benchmarks/convergence.py --minutes 2 5 10 --seeds 0 1 --out runs/convergence

Every budget is a run whose schedule ends with it. While the learning rate is held, though, the run of a
longer budget is that of a shorter one, to the bit; so each budget goes on from where the rate of the one
before began to fall, and its time counts from the first step all the same. The number of steps comes from a
short timed run before. Tracker constants are tuned on the tuning split, AP is that of the test split. What is
done is kept, so an interrupted benchmark goes on where it was, and several processes may do other seeds in
one --out; `results.json` holds everything that is printed. Time is that of this process, all its cores
together: give `--set data.workers=0`. With --clock it is the clock's, for a machine with nothing beside.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from experiment.training import now, step_cost
from ookd import config
from ookd.config import Recipe, WorldData
from ookd.config.tracker import TrackerConfig, tracker_config
from ookd.engine.checkpoint import newest
from ookd.engine.run import run
from ookd.engine.run_log import RECIPE, environment
from ookd.files import write_file
from ookd.models import zoo
from ookd.tune.replay import average_precision
from ookd.tune.search import cache_queries, tune
from ookd.worlds import World

RESULT = "result.json"  # of a budget and seed, in its folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--recipe", default="nano-ytvis-like")
    parser.add_argument("--minutes", type=float, nargs="+", default=[2, 5, 10])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--tune-videos", type=int, default=100)
    parser.add_argument("--test-videos", type=int, default=100)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--clock", action="store_true", help="minutes of the clock, not of processor time")
    parser.add_argument("--out", type=Path, default=Path("runs/convergence"))
    given = parser.parse_args()
    base = [*given.changes, "data.val=null"]
    given.out.mkdir(parents=True, exist_ok=True)
    clock = time.perf_counter if given.clock else now
    cost = 0.0
    for seed in given.seeds:
        before: Path | None = None
        for minutes in sorted(given.minutes):
            folder = given.out / f"{minutes:g}min-seed{seed}"
            if not (folder / RESULT).exists():
                cost = cost or step_cost(config.load(given.recipe, base), Path(tempfile.mkdtemp()), clock)
                steps = max(20, round(60 * minutes / cost))
                recipe = config.load(given.recipe, [*base, f"run.seed={seed}", f"run.steps={steps}"])
                row = {"minutes": minutes, "seed": seed, **train(recipe, folder, before, clock)}
                row |= scores(f"{folder}/model", recipe, given.tune_videos, given.test_videos, given.trials)
                write_file(folder / RESULT, json.dumps(row, indent=1))
            before = folder
    rows = [json.loads(path.read_text()) for path in sorted(given.out.glob(f"*/{RESULT}"))]
    write_file(given.out / "results.json", json.dumps({"machine": environment(), "runs": rows}, indent=1))
    print_table(rows)


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
    outcome = run(recipe, folder)
    seconds = (clock() - began) / (outcome.steps - (found.step if found else 0)) * outcome.steps
    return {"steps": outcome.steps, "trained_s": round(seconds, 1)}


def held_steps(recipe: Recipe) -> int:
    """Steps before the learning rate depends on how many there are in all."""
    if recipe.optim.schedule == "step":
        raise SystemExit("optim.schedule: here linear or cosine, whose rate falls at the end of a budget")
    return max(1, int(recipe.optim.hold * recipe.run.steps))


def go_on(before: Path, folder: Path) -> None:
    """Begin `folder`, unless it is begun, with what the run before was when its rate began to fall."""
    name = f"step-{held_steps(config.load(str(before / RECIPE))):08d}"
    if not (folder / "checkpoints").exists():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(before / "metrics.jsonl", folder)
        shutil.copytree(before / "checkpoints" / name, folder / "checkpoints" / name)


def scores(model: str, recipe: Recipe, tune_videos: int, test_videos: int, trials: int) -> dict[str, Any]:
    """AP on the test split, with the family's constants and with constants tuned on the tuning split."""
    saved = zoo.load(model)
    train = recipe.data.train[0]
    assert isinstance(train, WorldData)
    start = tracker_config("compact", recipe.tracker)

    def cached(split: str, videos: int) -> Any:
        world = World(train.preset, split=split, seed=train.seed, videos=videos, **train.change)
        with torch.autocast("cpu", torch.bfloat16):
            return cache_queries(saved.model, world, world.dataset(), saved.names, start)

    test = cached("test", test_videos)
    tuned: TrackerConfig = tune(cached("tune", tune_videos), start, trials=trials).config
    return {
        "ap": round(100 * average_precision(test, start), 2),
        "ap_tuned": round(100 * average_precision(test, tuned), 2),
        "constants": tuned.model_dump(exclude_defaults=True),
    }


def print_table(results: list[dict[str, Any]]) -> None:
    print("| minutes | measured | steps | track AP, tuned constants | track AP, constants of the family |")
    print("|---|---|---|---|---|")
    for minutes in sorted({row["minutes"] for row in results}):
        rows = sorted((x for x in results if x["minutes"] == minutes), key=lambda x: x["seed"])
        columns = [" / ".join(f"{row[name]:.1f}" for row in rows) for name in ("ap_tuned", "ap")]
        means = [f"{statistics.mean(row[name] for row in rows):.1f}" for name in ("ap_tuned", "ap")]
        taken = " / ".join(f"{row['trained_s'] / 60:.1f}" for row in rows)
        steps = " / ".join(str(row["steps"]) for row in rows)
        print(f"| {minutes:g} | {taken} | {steps} | {means[0]} ({columns[0]}) | {means[1]} ({columns[1]}) |")


if __name__ == "__main__":
    main()
