"""Does a teacher make the student better? Arms are trained from the same weights for equal steps.

    python benchmarks ablation --world identity --steps 2000 --teacher-steps 3000 --out runs/ablation

Each arm and seed has its folder. Finished work is never repeated, and an interrupted training continues.
Several processes can share one `--out`: each takes work that no other has. Tracker constants are tuned for
every arm on the tuning split; scores are of the test split. `results.json` holds the printed results.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from learning.arms import ARMS, Arm, defined, named, recipe_of, set_to
from learning.claim import claimed
from learning.judge import Conditions, judge
from learning.splits import SPLITS, Split, data_source, few_labels, of_world
from learning.summary import place, summarise, table
from learning.training import common_start, step_cost, trained
from ookd import config
from ookd.config import Recipe
from ookd.distill.fill import FillPlan
from ookd.engine.run_log import environment
from ookd.errors import UserError
from ookd.files import write_file

NOT_ASKED = ("out", "arms", "arm", "seeds", "threads", "report", "json")  # options that no result depends on


def run(given: argparse.Namespace) -> int:
    experiment = Experiment(given)
    failed = [] if given.report else experiment.work()
    summary = experiment.report()
    print(json.dumps(summary, indent=1) if given.json else table(summary["arms"]))
    return 2 if failed else 0


@dataclass(frozen=True)
class Experiment:
    """All arms and seeds of one `--out`."""

    wanted: argparse.Namespace

    @property
    def out(self) -> Path:
        out: Path = self.wanted.out
        return out

    @cached_property
    def arms(self) -> list[Arm]:
        """Those without a teacher first: so a second process has work while the first trains it."""
        extra = [defined(text) for text in self.wanted.arm]
        names = self.wanted.arms if self.wanted.arms is not None else ([] if extra else list(ARMS))
        return sorted([*map(named, names), *extra], key=lambda arm: arm.taught or arm.longer or arm.offline)

    @cached_property
    def splits(self) -> dict[str, Split]:
        wanted = self.wanted
        found = {}
        for split in SPLITS:
            videos, source = getattr(wanted, f"{split}_videos"), getattr(wanted, split)
            if source is not None:
                found[split] = Split(data_source(source))
            elif videos:
                world = of_world(wanted.world, split, videos, wanted.world_seed, wanted.world_change)
                found[split] = Split(world)
            elif split != "val":
                raise UserError(f"--{split}-videos {videos}: only val may be left out")
        return found

    def work(self) -> list[str]:
        """Train and judge what is left; the arms that failed."""
        recipes = {arm.name: self.recipe(arm) for arm in self.arms}  # a mistake in one shows at once
        once = self.wanted.seeds[:1]  # enough for a teacher, which is not trained again
        rounds = [(arm, seed) for seed in self.wanted.seeds for arm in self.arms]
        rounds = [(arm, seed) for arm, seed in rounds if seed in once or not arm.offline]
        for arm, seed in rounds:
            self.same_as_before(arm, place(self.out, arm.name, seed))
        failed = []
        for arm, seed in rounds:
            try:
                self.finish(arm, seed, recipes[arm.name])
            except UserError as error:
                failed.append(arm.name)
                print(f"error: {arm.name}, seed {seed}: {error}", file=sys.stderr)
        return failed

    def finish(self, arm: Arm, seed: int, recipe: Recipe, wait: bool = False) -> None:
        """Train and judge one arm with one seed, unless that is done or another process does it."""
        folder = place(self.out, arm.name, seed)
        if (folder / "result.json").exists():
            return
        with claimed(folder, wait) as mine:
            if not mine or (folder / "result.json").exists():
                return
            write_file(folder / "asked.json", json.dumps(self.asked(arm), indent=1))
            if arm.offline:
                model, facts = self.teacher, {"steps": 0, "seconds": 0.0}
                if (model.parent / "trained.json").exists():
                    facts = json.loads((model.parent / "trained.json").read_text())
            else:
                recipe = self.ready(arm, seed, recipe)
                model, facts = folder / "model", trained(recipe, folder)
            print(f"{arm.name}, seed {seed}: judging", file=sys.stderr)
            torch.set_num_threads(self.wanted.threads)
            judged, outcomes = judge(model, self.conditions)
            outcomes.save(folder / "videos.npz")
            result = {
                **facts,
                **judged,
                "offline": arm.offline,
                "recipe": None if arm.offline else recipe.model_dump(mode="json"),
                "machine": environment(),
            }
            write_file(folder / "result.json", json.dumps(result, indent=1))
            print(f"{arm.name}, seed {seed}: track AP {judged['test_ap']:.1f}", file=sys.stderr)

    def recipe(self, arm: Arm) -> Recipe:
        """The arm's recipe, still without start and teacher."""
        return recipe_of(arm, self.wanted.student, self.shared(arm.taught))

    def ready(self, arm: Arm, seed: int, recipe: Recipe) -> Recipe:
        """The recipe with start, teacher and cache, which are made first if they are missing."""
        steps = round(self.wanted.steps * self.ratio) if arm.longer else self.wanted.steps
        run = recipe.run.model_copy(update={"seed": seed, "steps": steps})
        model = recipe.model.model_copy(update={"start": str(self.start), "pretrained": False})
        recipe = self.with_teacher(recipe.model_copy(update={"run": run, "model": model}))
        if recipe.distill is not None and recipe.distill.cache is not None:
            with claimed(self.out / "cache", wait=True):
                FillPlan(recipe).run()
        return recipe

    def with_teacher(self, recipe: Recipe) -> Recipe:
        if recipe.distill is None:
            return recipe
        taught = recipe.distill.model_copy(update={"teacher": str(self.teacher)})
        return recipe.model_copy(update={"distill": taught})

    def shared(self, taught: bool = False) -> list[str]:
        """Changes of the recipe that all arms share. Only taught arms see videos without labels."""
        wanted = self.wanted
        labelled, unlabelled = few_labels(self.splits["train"].data, wanted.labelled, wanted.unlabelled)
        sources = [labelled, *unlabelled] if taught else [labelled]
        changes = [
            set_to("data.train", [source.model_dump() for source in sources]),
            "data.tune=null",
            "data.val=null",
            "run.keep=1",
            f"run.threads={wanted.threads}",
        ]
        if wanted.start:
            changes.append(set_to("model.start", wanted.start))
        return [*changes, *wanted.changes]

    @cached_property
    def start(self) -> Path:
        recipe = config.load(self.wanted.student, self.shared())
        return common_start(recipe, list(self.splits["train"].source.names), self.out / "start")

    @cached_property
    def teacher(self) -> Path:
        """The teacher's model folder; it is trained first if only its steps are given."""
        wanted = self.wanted
        if wanted.teacher:
            return Path(wanted.teacher)
        if not wanted.teacher_steps:
            raise UserError("name a teacher with --teacher MODEL, or train one with --teacher-steps N")
        begin = wanted.start
        if not begin:  # a teacher wraps a trained student
            alone, seed = ARMS["alone"], wanted.seeds[0]
            self.finish(alone, seed, self.recipe(alone), wait=True)
            begin = place(self.out, alone.name, seed) / "model"
        changes = [
            change
            for change in self.shared()
            if change.startswith(("data.train", "data.tune", "data.val", "run."))
        ]
        changes += [set_to("model.start", str(begin)), f"run.steps={wanted.teacher_steps}"]
        with claimed(self.out / "teacher", wait=True):
            recipe = config.load(wanted.teacher_recipe, [*changes, *wanted.teacher_changes])
            trained(recipe, self.out / "teacher")
        return self.out / "teacher" / "model"

    @cached_property
    def ratio(self) -> float:
        """The cost of a step of OOKD, in steps of the student alone."""
        folder = self.out / "ratio"
        with claimed(folder, wait=True):
            kept = folder / "ratio.json"
            if not kept.exists():
                costs = {}
                for arm in (ARMS["ookd"], ARMS["longer"]):
                    costs[arm.name] = step_cost(self.with_teacher(self.recipe(arm)))
                found = {"seconds_a_step": costs, "ratio": costs["ookd"] / costs["longer"]}
                write_file(kept, json.dumps(found))
            return float(json.loads(kept.read_text())["ratio"])

    @cached_property
    def conditions(self) -> Conditions:
        recipe = config.load(self.wanted.student, self.shared())
        return Conditions(self.splits, self.wanted.trials, 0, recipe.run.precision == "bf16")

    def asked(self, arm: Arm) -> dict[str, Any]:
        """The options that an arm's result depends on."""
        asked = {"arm": arm.changes}
        for name, value in vars(self.wanted).items():
            about_teacher = name.startswith("teacher") and not (arm.taught or arm.longer or arm.offline)
            if name not in NOT_ASKED and not about_teacher:
                asked[name] = value
        plain: dict[str, Any] = json.loads(json.dumps(asked))
        return plain

    def same_as_before(self, arm: Arm, folder: Path) -> None:
        """Raise if the arm was begun with other options."""
        path = folder / "asked.json"
        if path.exists():
            now = self.asked(arm)
            parser = argparse.ArgumentParser()
            options(parser)
            before = {name: parser.get_default(name) for name in now} | json.loads(path.read_text())
            differ = [f"{name} {before[name]}, not {now[name]}" for name in now if now[name] != before[name]]
            if differ:
                raise UserError(f"{folder} was begun with {'; '.join(differ)}: choose another --out")

    def report(self) -> dict[str, Any]:
        """All results so far, also written to `results.json`."""
        results: dict[str, dict[int, Any]] = {}
        known = list(ARMS)
        for path in sorted((self.out / "arms").glob("*/seed-*/result.json")):
            seed = int(path.parent.name.removeprefix("seed-"))
            results.setdefault(path.parts[-3], {})[seed] = json.loads(path.read_text())
        order = sorted(results, key=lambda arm: known.index(arm) if arm in known else len(known))
        whole = {
            "machine": environment(),
            "command": {name: str(value) for name, value in vars(self.wanted).items()},
            "arms": summarise({arm: results[arm] for arm in order}, self.out),
        }
        with claimed(self.out, wait=True):
            write_file(self.out / "results.json", json.dumps(whole, indent=1))
        return whole


def options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--out", type=Path, default=Path("runs/ablation"))
    add("--student", default="nano-distill", metavar="RECIPE", help="of the student and of its distillation")
    add("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE", help="for all arms")
    add("--start", metavar="MODEL", help="where all arms start; else the recipe's own beginning")
    add("--steps", type=int, default=2000)
    add("--arms", nargs="+", metavar="ARM", help=f"of {', '.join(ARMS)}; all if none is named")
    add("--arm", action="append", default=[], metavar="NAME[=BASE]:KEY=VALUE,...", help="another arm")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--teacher", metavar="MODEL", help="a trained teacher")
    add("--teacher-recipe", default="nano-clip", metavar="RECIPE")
    add("--teacher-steps", type=int, default=0, help="train it first, for so many steps")
    add("--teacher-set", dest="teacher_changes", action="append", default=[], metavar="KEY=VALUE")
    add("--world", default="identity", help="preset world")
    add("--world-seed", type=int, default=0)
    add("--world-change", action="append", default=[], metavar="KEY=VALUE")
    for split, videos in {"train": 1000, "tune": 100, "val": 48, "test": 100}.items():
        add(f"--{split}", metavar="DATA", help="annotated videos, or a data source, in place of the world's")
        add(f"--{split}-videos", type=int, default=videos, help=f"of the world; {videos}")
    add("--labelled", type=int, metavar="N", help="only the first N training videos have labels")
    more = "more to learn from, without labels"
    add("--unlabelled", action="append", default=[], metavar="DATA", help=more)
    trials = "sets of tracker constants tried for each arm; 0: all keep the family's"
    add("--trials", type=int, default=64, help=trials)
    add("--report", action="store_true", help="only print the results so far")
    parser.set_defaults(threads=1)
