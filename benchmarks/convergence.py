"""How good a student is after so many minutes of training on this machine.

    python benchmarks/convergence.py --minutes 2 5 10 --seeds 0 1 --out runs/convergence

Every budget is a run of its own whose schedule ends with it. The number of steps comes from a short timed run
before. Tracker constants are tuned on the tuning split, AP is that of the test split. What is done is kept,
so an interrupted benchmark goes on where it was; `results.json` holds everything that is printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from ookd import config
from ookd.config import Recipe, WorldData
from ookd.data.synthetic import World
from ookd.engine.loop import Trainer
from ookd.engine.record import Record, surroundings
from ookd.engine.run import run
from ookd.models import zoo
from ookd.tracking.config import TrackerConfig, tracker_config
from ookd.tracking.replay import average_precision
from ookd.tracking.tune import cache_queries, tune


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--recipe", default="nano-ytvis-like")
    parser.add_argument("--minutes", type=float, nargs="+", default=[2, 5, 10])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--tune-videos", type=int, default=100)
    parser.add_argument("--test-videos", type=int, default=100)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, default=Path("runs/convergence"))
    given = parser.parse_args()
    base = [*given.changes, "data.val=null"]
    given.out.mkdir(parents=True, exist_ok=True)
    kept = given.out / "results.json"
    results: list[dict[str, Any]] = json.loads(kept.read_text())["runs"] if kept.exists() else []
    done = {(row["minutes"], row["seed"]) for row in results}
    speed = 0.0
    for minutes in given.minutes:
        for seed in given.seeds:
            if (minutes, seed) in done:
                continue
            speed = speed or steps_per_second(config.load(given.recipe, base), given.out / "speed")
            steps = max(20, round(60 * minutes * speed))
            recipe = config.load(given.recipe, [*base, f"run.seed={seed}", f"run.steps={steps}"])
            folder = given.out / f"{minutes:g}min-seed{seed}"
            outcome = run(recipe, folder)
            results.append(
                {
                    "minutes": minutes,
                    "seed": seed,
                    "steps": steps,
                    "trained_s": round(outcome.seconds, 1),
                    **scores(outcome.model, recipe, given.tune_videos, given.test_videos, given.trials),
                }
            )
            kept.write_text(json.dumps({"machine": surroundings(), "runs": results}, indent=1))
    print_table(results)


def steps_per_second(recipe: Recipe, folder: Path, steps: int = 40) -> float:
    """Measured on a run of its own, its first steps left out."""
    timed = recipe.model_copy(
        update={"run": recipe.run.model_copy(update={"steps": steps, "save_every": steps})}
    )
    times: list[float] = []

    class Clock(Record):
        def step(self, *given: Any) -> dict[str, float]:
            times.append(time.perf_counter())
            return super().step(*given)

    Trainer(timed, folder, Clock(timed, folder, quiet=True)).fit()
    half = steps // 2
    return (steps - half) / (times[-1] - times[half - 1])


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
    print("| minutes | steps | track AP, tuned constants | track AP, constants of the family |")
    print("|---|---|---|---|")
    for minutes in sorted({row["minutes"] for row in results}):
        rows = [row for row in results if row["minutes"] == minutes]
        columns = [" / ".join(f"{row[name]:.1f}" for row in rows) for name in ("ap_tuned", "ap")]
        means = [f"{statistics.mean(row[name] for row in rows):.1f}" for name in ("ap_tuned", "ap")]
        print(f"| {minutes:g} | {rows[0]['steps']} | {means[0]} ({columns[0]}) | {means[1]} ({columns[1]}) |")


if __name__ == "__main__":
    main()
