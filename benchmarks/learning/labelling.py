"""Labels for students: `nano` finds objects in videos, and its detections are joined in several ways."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ookd.api import load
from ookd.config.tracker import TrackerConfig
from ookd.data.formats import save_ytvis
from ookd.label.labeller import LabelThresholds, annotated, plausible
from ookd.structures import Dataset, TrackResult, Video
from ookd.tracking.predict import detect_video
from ookd.tracking.recordings import recordings
from ookd.tracking.select import Detections
from ookd.worlds import World
from ookd.worlds.write import write
from quality.association import WORLDS, Experiment

THRESHOLDS = LabelThresholds()
# from a video, its detections, and the constants of the online tracker and of the linker
Join = Callable[
    [Video, Sequence[Detections], TrackerConfig, TrackerConfig], Mapping[str, Iterable[TrackResult]]
]


def make_labels(given: argparse.Namespace, folder: Path, names: Sequence[str], join: Join) -> None:
    """Draw the videos and write an annotation file under each of the names that `join` gives, once."""
    if all((folder / f"{name}.json").is_file() for name in names):
        return
    preset, change = WORLDS[given.world]
    world = World(preset, split="train", seed=given.seed, videos=given.videos, **change)
    write(world, folder, overwrite=True)
    teacher = Experiment(argparse.Namespace(**{**vars(given), "model": "nano", "out": given.out / "teacher"}))
    online, linker = (
        teacher.arm(name).plan(teacher.constants(name), "tune")[0] for name in ("assignment", "link-all")
    )
    saved, truth = load("nano"), world.dataset()
    network, _ = saved.online()
    found: dict[str, dict[int, list[TrackResult]]] = {name: {} for name in names}
    for recording, video in zip(recordings(world), truth.videos, strict=True):
        seen = list(detect_video(network, recording.images(), online))
        for name, tracks in join(video, seen, online, linker).items():
            found[name][video.id] = list(plausible(tracks, saved.names, THRESHOLDS))
    unlabelled = Dataset([], [replace(video, tracks=[]) for video in truth.videos], folder, world.name)
    for name, results in found.items():
        labels = annotated(unlabelled, saved.names, results.__getitem__, THRESHOLDS)
        save_ytvis(labels, folder / f"{name}.json")
