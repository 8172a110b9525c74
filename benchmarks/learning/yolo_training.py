"""`nano` and YOLO after equal training: the same videos, the same minutes of one core.

Both are judged like the arms of `association`: constants of their trackers are searched on tune videos with
the same number of trials, scores are of test videos, and the network's detections are computed once. Finished
work is kept in --out, so that an interrupted run continues.

What is unfair: YOLO starts from random weights, because its own are a download, and `nano` from a backbone
that knows ImageNet; "nano, from nothing" does not. `nano` trains in bfloat16, which Ultralytics does not do
on a CPU. The recipe of `nano` was found on drawn worlds. That of YOLO is Ultralytics' default, except that
it sees every fourth frame, since neighbours are alike, and warms up for one epoch: three would be most of
its time. Its time is that of the clock, so nothing else should run; its processor time is kept with the
model.

Ultralytics is AGPL and not part of this project: the program only runs the `yolo` command of an environment
given by --env, such as `python -m venv E; E/bin/pip install ultralytics openvino lap`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from itertools import starmap
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from learning import seeds
from learning.arms import set_to
from learning.seeds import COLUMNS, Judged, add_rows
from learning.training import step_cost, trained
from measuring import Table
from ookd import config
from ookd.models.families import family_named
from ookd.worlds import World
from quality.association import WORLDS, Experiment
from quality.yolo import YoloNetwork, YoloTracker
from speed.commands import once, yolo_command

RECIPE = "nano-ytvis-like"
TRAININGS: Mapping[str, tuple[str, ...]] = {  # changes of the recipe
    "nano": (),
    "nano, from nothing": ("model.pretrained=false", 'model.change={"frozen": 0}', "optim.trunk=1.0"),
}
THEIRS = "yolo11n-seg"
EVERY = 4  # of its frames one is trained on
ARMS: Mapping[str, tuple[str, str]] = {  # training, association
    "yolo11n-seg, ByteTrack": (THEIRS, "bytetrack"),
    "yolo11n-seg, BoT-SORT": (THEIRS, "botsort"),
    "nano, ByteTrack": ("nano", "bytetrack"),
    "nano": ("nano", "assignment"),
    "nano, from nothing": ("nano, from nothing", "assignment"),
}


def options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--env", type=Path, required=True, help="a virtual environment with ultralytics, openvino and lap")
    add("--world", default="ytvis-like", choices=sorted(WORLDS))
    add("--arms", nargs="+", default=list(ARMS), choices=list(ARMS), metavar="ARM")
    add("--videos", type=int, default=200)
    add("--minutes", type=float, default=30, help="of one core, for each training")
    seeds.options(parser, test_videos=100, seed=701, out="runs/yolo-training")


def run(given: argparse.Namespace) -> None:
    folder = given.out / f"{given.world}-{given.videos}-{given.minutes:g}"
    arms = {}
    for name in given.arms:
        training, association = ARMS[name]
        learn = learn_theirs if training == THEIRS else learn_ours
        models = [learn(given, folder / f"{training}-{seed}", training, seed) for seed in given.seeds]
        if not given.train_only:
            steps = round(sum(model["steps"] for model in models) / len(models))
            arms[name] = judged(given, training, steps, models, association)
    if arms:
        with Table(given, COLUMNS) as table:
            add_rows(table, arms)


def judged(
    given: argparse.Namespace, training: str, steps: int, models: list[dict[str, Any]], association: str
) -> Judged:
    """The scores of one training's models."""
    scores = []
    for model in models:
        folder = Path(model["folder"])
        own = argparse.Namespace(**{**vars(given), "model": str(folder / "model"), "out": folder / "judged"})
        tracker = None
        if training == THEIRS:
            names = [category.name for category in world(given, "train", 1).dataset().categories]
            network = YoloNetwork(folder / "weights" / "best_openvino_model")
            tracker = YoloTracker(network, names, family_named("compact").tracker)
        scores.append(Experiment(own, tracker=tracker).scores(association))
    return Judged(
        training, steps, {name: np.stack([score[name] for score in scores]) for name in seeds.SCORES}
    )


def learn_ours(given: argparse.Namespace, folder: Path, training: str, seed: int) -> dict[str, Any]:
    """Train `nano` for as many steps as the minutes allow."""
    preset, change = WORLDS[given.world]
    source = {"kind": "world", "preset": preset, "split": "train", "videos": given.videos, "change": change}
    fixed = {
        "data.train": [source],
        "data.tune": None,
        "data.val": None,
        "data.workers": 0,
        "run.threads": 1,
        "run.seed": seed,
        "tracker.short_side": change.get("height", 160),
    }
    changes = [*given.set, *TRAININGS[training], *starmap(set_to, fixed.items())]
    kept = folder.with_suffix(".json")
    if not kept.is_file():
        steps = max(20, round(60 * given.minutes / step_cost(config.load(RECIPE, changes))))
        folder.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps({"folder": str(folder), "steps": steps}))
    model: dict[str, Any] = json.loads(kept.read_text())
    trained(config.load(RECIPE, [*changes, f"run.steps={model['steps']}"]), folder)
    return model


def learn_theirs(given: argparse.Namespace, folder: Path, training: str, seed: int) -> dict[str, Any]:
    """Train YOLO with its own command, and export it."""
    kept = folder.with_suffix(".json")
    if kept.is_file():
        found: dict[str, Any] = json.loads(kept.read_text())
        return found
    yolo, data = yolo_command(given.env), frames(given, folder.parent)
    height, width = world(given, "train", 1).clip(0, [0]).images[0].shape[:2]
    if folder.exists():
        shutil.rmtree(folder)  # of a training that did not end
    folder.mkdir(parents=True)
    settings = {
        "data": data,
        "model": f"{THEIRS}.yaml",
        "time": given.minutes / 60,
        "imgsz": max(height, width),
        "seed": seed,
        "project": folder.parent.absolute(),
        "name": folder.name,
        "exist_ok": True,
        "device": "cpu",
        "workers": 0,
        "warmup_epochs": 1,
        "val": False,
        "plots": False,
        "verbose": False,
    }
    words = [f"{name}={value}" for name, value in settings.items()]
    processor, *_ = once([str(yolo), "segment", "train", *words], folder, [0], YOLO_OFFLINE="true")
    best = f"model={(folder / 'weights' / 'best.pt').absolute()}"
    once([str(yolo), "export", best, "format=openvino", f"imgsz={height},{width}"], folder)
    epochs = len((folder / "results.csv").read_text().splitlines()) - 1
    model = {"folder": str(folder), "steps": epochs, "processor_minutes": round(processor / 60, 1)}
    kept.write_text(json.dumps(model))
    return model


def frames(given: argparse.Namespace, folder: Path) -> Path:
    """The training videos as labelled images; the YAML that names them."""
    described = folder / "yolo.yaml"
    if not described.is_file():
        preset, change = WORLDS[given.world]
        ookd = [sys.executable, "-m", "ookd", "data"]
        changes = [word for name, value in change.items() for word in ("--set", f"{name}={_text(value)}")]
        drawn, converted = folder / "drawn", (folder / "yolo").absolute()
        of_world = ["--preset", preset, "--videos", str(given.videos), *changes]
        subprocess.run([*ookd, "synth", "--out", drawn, *of_world, "--overwrite"], check=True)
        subprocess.run(
            [*ookd, "convert", drawn, "--to", "yolo", "--out", converted, "--overwrite"], check=True
        )
        shutil.rmtree(drawn)
        names = yaml.safe_load((converted / "data.yaml").read_text())["names"]
        listed = converted / "train.txt"
        listed.write_text("\n".join(map(str, sorted(converted.glob("images/**/*.jpg"))[::EVERY])))
        images = {"path": str(converted), "train": listed.name, "val": listed.name, "names": names}
        described.write_text(yaml.safe_dump(images))
    return described.absolute()


def world(given: argparse.Namespace, split: str, videos: int) -> World:
    preset, change = WORLDS[given.world]
    return World(preset, split=split, videos=videos, **change)


def _text(value: object) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)
