"""`ookd demo --distill`: the whole method, small. A teacher, a student without and one with it, a table.

OUT/teacher           the clip teacher around the bundled student; its clip decoder begins as no correction
OUT/alone, OUT/taught runs of the recipe `nano-demo`: the same start, clips and steps
OUT/report.json       what the table says
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from ookd import config
from ookd.config import Recipe
from ookd.data.new_folder import new_folder
from ookd.data.synthetic import World
from ookd.engine.build import make_model
from ookd.engine.record import RECIPE, write_whole
from ookd.engine.run import MODEL, run
from ookd.errors import UserError
from ookd.evaluation.compare import compare
from ookd.evaluation.report import Report
from ookd.evaluation.run import evaluate
from ookd.models import zoo
from ookd.tracking.api import load
from ookd.tracking.config import tracker_config
from ookd.tracking.predict import predict

STUDENT = "nano"  # bundled: the teacher's frame network
TEACHER, REPORT = "teacher", "report.json"
MADE_BY = "nano-ookd"  # the recipe of the bundled model
SCENES = 20
FAIR = {"imbalance": 0.0}  # in the scenes of the test rare classes count as much as others
SECONDS = "seconds"  # in a run's folder: how long it was trained, interruptions left out


def distill(out: Path, steps: int | None, seed: int, overwrite: bool) -> dict[str, Any]:
    """Do all of it, or what is not done yet, and write the report. `seed` is that of trainings and scenes."""
    runs = recipes(out, steps, seed)
    mark = f"{TEACHER}/{zoo.CONFIG}"
    if overwrite or not (out / mark).exists():
        with new_folder(out, overwrite, (mark,)) as folder:
            make_teacher(folder / TEACHER, seed)
    for name, recipe in runs.items():
        begun = out / name / RECIPE
        if begun.exists() and config.load(str(begun)) != recipe:
            raise UserError(
                f"{out}: was begun with other steps, another seed or in another place; "
                "give another --out, or --overwrite"
            )
    told = Console(stderr=True, highlight=False, soft_wrap=True)
    source: Any = runs["alone"].data.train[0]
    world = World(source.preset, "test", seed, SCENES, **{**source.change, **FAIR})
    seconds: dict[str, float | None] = {TEACHER: None}
    for name, recipe in runs.items():
        told.print(f"{name}: {recipe.run.steps} steps with {', '.join(['labels', *beside_labels(recipe)])}")
        seconds[name] = train(recipe, out / name)
    told.print(f"tracking {SCENES} unseen scenes with all three")
    truth = world.dataset()
    constants = tracker_config("compact", runs["alone"].tracker)
    places: dict[str, str | Path] = {**{name: out / name for name in runs}, TEACHER: STUDENT}
    reports: dict[str, Report] = {}
    for name, place in places.items():
        tracker = load(place)
        reports[name] = evaluate(truth, predict(tracker.model, world, constants, tracker.names))
    gain = compare(reports["taught"], reports["alone"]).ap
    summary = {
        "world": source.preset,
        "scenes": SCENES,
        "seed": seed,
        "train_videos": source.videos,
        "steps": runs["alone"].run.steps,
        "teacher_steps": config.load(MADE_BY).run.steps,
        "models": {
            name: {
                "beside_labels": beside_labels(runs[name]) if name in runs else [],
                "ap": report.ap,
                "ap50": report.summary["AP50"],
                "hota": report.tracking.hota,
                "identity_switches": report.tracking.switches,
                "train_seconds": seconds[name],
            }
            for name, report in reports.items()
        },
        "gain": {"ap": gain.difference, "low": gain.low, "high": gain.high},
    }
    write_whole(out / REPORT, json.dumps(summary, indent=1) + "\n")
    return summary


def recipes(out: Path, steps: int | None, seed: int) -> dict[str, Recipe]:
    """Of both students: they differ in the teacher and in Minor-Paste alone."""
    same = [f"run.seed={seed}", *([] if steps is None else [f"run.steps={steps}"])]
    teacher = json.dumps(str((out / TEACHER).resolve()))
    return {
        "alone": config.load("nano-demo", [*same, "distill=null", "data.minor_paste=null"]),
        "taught": config.load("nano-demo", [*same, f"distill.teacher={teacher}"]),
    }


def beside_labels(recipe: Recipe) -> list[str]:
    """What a student learns from that the other one does not have: the teacher's signals, Minor-Paste."""
    taught = [] if recipe.distill is None else list(recipe.distill.signals)
    return [*taught, *([] if recipe.data.minor_paste is None else ["Minor-Paste"])]


def make_teacher(folder: Path, seed: int) -> None:
    """Untrained beyond its frame network, it says of a clip what that says of the frames."""
    torch.manual_seed(seed)
    names = zoo.load(STUDENT).names
    spec = config.Model(base=f"{STUDENT}-clip", pretrained=False, start=STUDENT)
    zoo.save_pretrained(make_model(spec, len(names)), folder, names)


def train(recipe: Recipe, folder: Path) -> float:
    """Train, go on with a training that was interrupted, or leave a finished one as it is; its seconds."""
    clock = folder / SECONDS
    before = float(clock.read_text()) if clock.exists() else 0.0
    if (folder / MODEL / zoo.CONFIG).exists():
        return before
    began = time.perf_counter()
    try:
        run(recipe, folder)
    finally:
        before = round(before + time.perf_counter() - began, 1)
        write_whole(clock, f"{before}\n")
    return before


def show(summary: dict[str, Any], out: Path) -> None:
    """The table, what it may be taken for, and what to try next."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    table = Table(title=f"{summary['scenes']} unseen {summary['world']} scenes, tracked online", box=None)
    table.add_column("")
    table.add_column("beside labels")
    for title in ("steps", "training", "AP", "HOTA", "switches"):
        table.add_column(title, justify="right")
    for name, row in summary["models"].items():
        seconds = row["train_seconds"]
        table.add_row(
            name,
            ", ".join(row["beside_labels"]) or "-",
            str(summary["teacher_steps" if seconds is None else "steps"]),
            "bundled" if seconds is None else f"{seconds / 60:.1f} min",
            f"{100 * row['ap']:.1f}",
            f"{100 * row['hota']:.1f}",
            str(row["identity_switches"]),
        )
    console.print(table)
    gain = {name: f"{100 * value:+.1f}" for name, value in summary["gain"].items()}
    console.print(
        f"\nTaught above alone: {gain['ap']} AP, [{gain['low']}, {gain['high']}] if other scenes are drawn "
        "(95 %).\n"
        f"One seed and {summary['scenes']} synthetic scenes are an illustration, not a result: other "
        "trainings move AP, too.\n"
        f"The students have {summary['train_videos']} videos, in which most classes are rare; the unseen "
        "scenes show all alike.\n"
        "The steps are equal, the time is not: a taught one asks the teacher as well.\n"
        f"The teacher's row is its frame network, the bundled {STUDENT}: {summary['teacher_steps']} steps on "
        "more and larger scenes. What\nit knows is all that these signals pass on: the clip decoder is not "
        "trained here.\n\n"
        f"{out}/{REPORT}, {out}/alone/run.html, {out}/taught/run.html\n\n"
        "Next:\n"
        f"  ookd demo --model {out}/taught --out taught-scene\n"
        f"  ookd distill nano-demo --teacher {out}/{TEACHER} --show\n"
        f"  ookd distill nano-demo --teacher {out}/{TEACHER} --set run.steps=1200 --out runs/longer"
    )
