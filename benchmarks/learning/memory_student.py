"""The value of a memory: a student with track slots against the stateless one, at equal compute.

All arms start from the bundled `nano` and see the same videos. Each is trained with several seeds and judged
like the arms of `association`: constants are searched on tune videos, scores are of test videos. A difference
is that of means over seeds; its interval is a bootstrap over videos and seeds. Finished work is kept in
--out, so that an interrupted run continues, and seeds can be added.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path

from learning import seeds
from learning.arms import set_to
from learning.seeds import COLUMNS, add_rows, judge, seeds_of
from learning.training import step_cost, trained
from measuring import Table
from ookd import config
from ookd.config import Recipe
from quality.association import WORLDS

RECIPE = "nano-memory"
STATELESS = ("model.base=nano",)


@dataclass(frozen=True, slots=True)
class Row:
    """A way to train, and how the trained model's detections are joined."""

    training: str
    association: str


TRAININGS: Mapping[str, tuple[str, ...]] = {  # changes of the recipe
    "stateless": STATELESS,
    "slots": (),
    "frozen": ('model.change={"freeze_frame": true}',),
}
ROWS: Mapping[str, Row] = {
    "stateless": Row("stateless", "assignment"),
    "slots": Row("slots", "own"),
    "slots, assignment": Row("slots", "assignment"),
    "frozen": Row("frozen", "own"),
    "untrained": Row("", "assignment"),
    "true identities, stateless": Row("stateless", "true"),
    "true identities, slots": Row("slots", "true"),
    "true identities, untrained": Row("", "true"),
}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--world", default="hard", choices=sorted(WORLDS))
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS), metavar="ROW")
    parser.add_argument("--steps", type=int, default=600, help="of the slots; the others get the same time")
    seeds.options(parser, test_videos=200, seed=601, out="runs/memory-student")


def run(given: argparse.Namespace) -> None:
    steps = equal_steps(given)
    for seed in given.seeds:
        for training in {ROWS[name].training: None for name in given.rows if ROWS[name].training}:
            trained(recipe_of(given, training, seed, steps[training]), place(given, training, seed))
    if given.train_only:
        return
    arms = {}
    for name in given.rows:
        row = ROWS[name]
        models = seeds_of(given.out / given.world, row.training, given.seeds)
        arms[name] = judge(given, row.training, steps.get(row.training, 0), models, row.association)
    with Table(given, COLUMNS) as table:
        add_rows(table, arms)


def equal_steps(given: argparse.Namespace) -> dict[str, int]:
    """How many steps each training gets for the processor time of the slots; measured once."""
    path = given.out / "steps.json"
    if not path.is_file():
        cost = {name: step_cost(recipe_of(given, name, 0, given.steps)) for name in TRAININGS}
        steps = {name: round(given.steps * cost["slots"] / spent) for name, spent in cost.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(steps))
    found: dict[str, int] = json.loads(path.read_text())
    return found


def recipe_of(given: argparse.Namespace, training: str, seed: int, steps: int) -> Recipe:
    preset, change = WORLDS[given.world]
    source = {"kind": "world", "preset": preset, "split": "train", "videos": 1000, "change": change}
    changes = {
        "data.train": [source],
        "data.tune": None,
        "data.val": None,
        "run.seed": seed,
        "run.steps": steps,
        "tracker.short_side": change.get("height", 160),
    }
    return config.load(RECIPE, [*given.set, *TRAININGS[training], *starmap(set_to, changes.items())])


def place(given: argparse.Namespace, training: str, seed: int) -> Path:
    folder: Path = given.out / given.world / f"{training}-{seed}"
    return folder
