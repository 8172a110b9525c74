"""The value of a teacher's labels: students that learn from them, and from true ones.

The bundled `nano` labels unlabelled videos, joined by its online tracker, by the linker, which knows the
future, and by the linker in both directions. Students from ImageNet weights learn from these labels, from
the linker's with unsure frames taken for certain, and from the truth. All are judged alike, with constants
searched on tune videos. Finished work is kept in --out, so that an interrupted run continues, and seeds and
arms can be added.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import starmap
from pathlib import Path
from typing import Any

import numpy as np

from learning import seeds
from learning.arms import set_to
from learning.labelling import make_labels
from learning.seeds import COLUMNS, Judged, add_rows, judge, seeds_of
from learning.training import trained
from measuring import Table
from ookd import config
from ookd.config import Recipe
from ookd.config.tracker import TrackerConfig
from ookd.data.formats.json_file import ANNOTATIONS
from ookd.label.both_ways import joined
from ookd.structures import TrackResult, Video
from ookd.tracking.select import Detections
from quality.association import WORLDS, Experiment
from quality.labels import followed, reversed_track

LABELS = ("online", "linker", "both-ways")
JOIN = "assignment"  # how the detections of all students are joined
TEACHER = "teacher"


@dataclass(frozen=True, slots=True)
class Arm:
    """Labels, and what the data section says of them."""

    labels: str
    change: Mapping[str, Any] = field(default_factory=dict)


ARMS: Mapping[str, Arm] = {
    "online": Arm("online"),
    "linker": Arm("linker"),
    "linker-all-sure": Arm("linker", {"sure": 0.0}),
    "linker-weighed": Arm("linker", {"weigh": True}),
    "both-ways": Arm("both-ways"),
    "true": Arm("true"),
}


def options(parser: argparse.ArgumentParser) -> None:
    usual = [name for name in ARMS if name != "linker-weighed"]
    parser.add_argument("--world", default="ytvis-like", choices=sorted(WORLDS))
    parser.add_argument(
        "--arms", nargs="+", default=[*usual, TEACHER], choices=[*ARMS, TEACHER], metavar="ARM",
        help=f"{' '.join([*ARMS, TEACHER])}; all are compared with the first",
    )  # fmt: skip
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--videos", type=int, default=200, help="without labels, for the teacher")
    seeds.options(parser, test_videos=100, seed=1001, out="runs/label-students")


def run(given: argparse.Namespace) -> None:
    folder = given.out / given.world
    make_labels(given, folder / "labels", LABELS, ways)
    taught = [name for name in given.arms if name != TEACHER]
    for seed in given.seeds:
        for name in taught:
            trained(recipe_of(given, name, folder / "labels", seed), folder / f"{name}-{seed}")
    if given.train_only:
        return
    arms = {}
    for name in given.arms:
        training = "" if name == TEACHER else name
        models = seeds_of(folder, training, given.seeds)
        found = judge(given, training, given.steps if training else 0, models, JOIN)
        hota = np.stack([experiment(given, model, place).hota(JOIN) for place, model in models.items()])
        arms[name] = Judged(training, found.steps, {**found.scores, "hota": hota})
    more = {"HOTA": ".1f", **dict.fromkeys(["HOTA above", "HOTA low", "HOTA high"], "+.1f")}
    with Table(given, {**COLUMNS, **more}) as table:
        add_rows(table, arms, ("hota",))


def experiment(given: argparse.Namespace, model: str, out: Path) -> Experiment:
    return Experiment(argparse.Namespace(**{**vars(given), "model": model, "out": out}))


def recipe_of(given: argparse.Namespace, name: str, labels: Path, seed: int) -> Recipe:
    arm = ARMS[name]
    file = ANNOTATIONS if arm.labels == "true" else f"{arm.labels}.json"
    changes = {
        "data.train": [{"kind": "folder", "path": str(labels / file), **arm.change}],
        "data.tune": None,
        "data.val": None,
        "run.seed": seed,
        "run.steps": given.steps,
        "tracker.short_side": WORLDS[given.world][1].get("height", 160),
    }
    return config.load("nano-ytvis-like", [*given.set, *starmap(set_to, changes.items())])


def ways(
    video: Video, seen: Sequence[Detections], online: TrackerConfig, linker: TrackerConfig
) -> dict[str, list[TrackResult]]:
    """The tracks of a video, by how its detections are joined."""
    online, linker = (constants.changed({"every_class": False}) for constants in (online, linker))
    forward = followed(seen, linker, None, video.id)
    backward = [reversed_track(track) for track in followed(seen[::-1], linker, None, video.id)]
    return {
        "online": followed(seen, online, 0, video.id),
        "linker": forward,
        "both-ways": joined(forward, backward),
    }
