"""`ookd demo --distill`: the whole method on a small scale. A student learns alone, another from a teacher.

OUT/teacher            the bundled student as a clip teacher, with a clip decoder that changes nothing yet
OUT/alone, OUT/taught  runs of the recipe `nano-demo` with the same start, clips and steps
OUT/report.json        the scores of all three
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
from ookd.api import load
from ookd.config import Recipe
from ookd.engine.build import make_model
from ookd.engine.run import MODEL, run
from ookd.engine.run_log import RECIPE
from ookd.errors import UserError
from ookd.evaluation.compare import compare
from ookd.evaluation.report import Report
from ookd.evaluation.run import evaluate
from ookd.files import new_folder, write_file
from ookd.models import zoo
from ookd.models.families import tracker_config
from ookd.tracking.predict import predict
from ookd.worlds import World

STUDENT = "nano"  # bundled; also the frame network of the teacher
TEACHER, REPORT = "teacher", "report.json"
MADE_BY = "nano-ookd"  # the recipe of the bundled model
SCENES = 20
FAIR = {"imbalance": 0.0}  # in the test scenes, all classes are equally frequent
SECONDS = "seconds"  # file in a run folder: training time without interruptions


def distill(out: Path, steps: int | None, seed: int, overwrite: bool) -> dict[str, Any]:
    """Do everything that is not done yet, and write the report. `seed` is that of training and scenes."""
    runs = recipes(out, steps, seed)
    mark = f"{TEACHER}/{zoo.CONFIG}"
    if overwrite or not (out / mark).exists():
        with new_folder(out, overwrite, (mark,)) as folder:
            make_teacher(folder / TEACHER, seed)
    for name, recipe in runs.items():
        begun = out / name / RECIPE
        if begun.exists() and config.load(str(begun)) != recipe:
            raise UserError(
                f"{out}: was started with other steps, another seed or in another place; "
                "name another --out or add --overwrite"
            )
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    source: Any = runs["alone"].data.train[0]
    world = World(source.preset, "test", seed, SCENES, **{**source.change, **FAIR})
    seconds: dict[str, float | None] = {TEACHER: None}
    for name, recipe in runs.items():
        console.print(
            f"{name}: {recipe.run.steps} steps with {', '.join(['labels', *beside_labels(recipe)])}"
        )
        seconds[name] = train(recipe, out / name)
    console.print(f"tracking {SCENES} unseen scenes with all three")
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
    write_file(out / REPORT, json.dumps(summary, indent=1) + "\n")
    return summary


def recipes(out: Path, steps: int | None, seed: int) -> dict[str, Recipe]:
    """The recipes of both students. They differ only in the teacher and in Minor-Paste."""
    same = [f"run.seed={seed}", *([] if steps is None else [f"run.steps={steps}"])]
    teacher = json.dumps(str((out / TEACHER).resolve()))
    return {
        "alone": config.load("nano-demo", [*same, "distill=null", "data.minor_paste=null"]),
        "taught": config.load("nano-demo", [*same, f"distill.teacher={teacher}"]),
    }


def beside_labels(recipe: Recipe) -> list[str]:
    """What a student learns from besides labels: the signals of the teacher, and Minor-Paste."""
    signals = [] if recipe.distill is None else list(recipe.distill.signals)
    return [*signals, *([] if recipe.data.minor_paste is None else ["Minor-Paste"])]


def make_teacher(folder: Path, seed: int) -> None:
    """Write the teacher. Its clip decoder is untrained and leaves the answers for the frames unchanged."""
    torch.manual_seed(seed)
    names = zoo.load(STUDENT).names
    spec = config.Model(base=f"{STUDENT}-clip", pretrained=False, start=STUDENT)
    zoo.save_pretrained(make_model(spec, len(names)), folder, names)


def train(recipe: Recipe, folder: Path) -> float:
    """Train, or continue an interrupted run, or leave a finished one as it is. Returns its seconds."""
    clock = folder / SECONDS
    before = float(clock.read_text()) if clock.exists() else 0.0
    if (folder / MODEL / zoo.CONFIG).exists():
        return before
    began = time.perf_counter()
    try:
        run(recipe, folder)
    finally:
        before = round(before + time.perf_counter() - began, 1)
        write_file(clock, f"{before}\n")
    return before


def show(summary: dict[str, Any], out: Path) -> None:
    """Print the table, how to read it, and what to try next."""
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
        f"\nGain of the taught student: {gain['ap']} AP, 95 % interval over scenes "
        f"[{gain['low']}, {gain['high']}].\n"
        f"One seed and {summary['scenes']} synthetic scenes are an illustration, not a result: another "
        "training run changes AP, too.\n"
        f"The students train on {summary['train_videos']} videos, in which most classes are rare. In the "
        "unseen scenes all are equally frequent.\n"
        "Both take the same number of steps, but not the same time: the taught one runs the teacher, too.\n"
        f"The row of the teacher is its frame network, the bundled {STUDENT}: {summary['teacher_steps']} "
        "steps on more and larger scenes.\nThe signals pass on only what this network knows: the clip "
        "decoder is not trained here.\n\n"
        f"{out}/{REPORT}, {out}/alone/run.html, {out}/taught/run.html\n\n"
        "Next:\n"
        f"  ookd demo --model {out}/taught --out taught-scene\n"
        f"  ookd distill nano-demo --teacher {out}/{TEACHER} --show\n"
        f"  ookd distill nano-demo --teacher {out}/{TEACHER} --set run.steps=1200 --out runs/longer"
    )
