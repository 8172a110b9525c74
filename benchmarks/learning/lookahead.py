"""The value of the future for a student: labels that differ only in how far ahead their tracker saw.

One frame network's detections on unlabelled videos are joined with more and more of the following frames
known, by the truth (the ceiling), and with identities shuffled within each class (the floor). Each becomes
labels as `ookd label` writes them, and a student that starts from the same network trains on them alone.
Finished work is kept in --out, so that an interrupted run continues, and seeds and arms can be added.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from itertools import starmap
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from learning import seeds
from learning.arms import set_to
from learning.labelling import make_labels
from learning.seeds import COLUMNS, add_rows, judge, seeds_of
from learning.training import trained
from measuring import Table
from ookd import config
from ookd.config import Recipe
from ookd.config.tracker import TrackerConfig
from ookd.data import rle
from ookd.masks import Floats, Ints
from ookd.structures import Rle, TrackResult, Video
from ookd.tracking.linker import Linker
from ookd.tracking.results import VideoResults
from ookd.tracking.select import Detections
from ookd.tune.replay import SHOWS
from quality.association import WORLDS

AHEAD: Mapping[str, int | None] = {"ahead-0": 0, "ahead-4": 4, "ahead-12": 12, "ahead-all": None}
LABELS = (*AHEAD, "true", "shuffled")
UNTRAINED = "untrained"
STUDENTS = {"nano": "assignment", "nano-memory": "own"}  # and how their detections are joined


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--world", default="hard", choices=sorted(WORLDS))
    parser.add_argument("--student", default="nano", choices=list(STUDENTS))
    parser.add_argument(
        "--join", choices=["own", "assignment"], help="detections of students; default: its own way"
    )
    parser.add_argument(
        "--labels", nargs="+", default=[UNTRAINED, *LABELS], choices=[UNTRAINED, *LABELS], metavar="LABELS"
    )
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--videos", type=int, default=500, help="without labels, for the student")
    seeds.options(parser, test_videos=400, seed=801, out="runs/lookahead")


def run(given: argparse.Namespace) -> None:
    folder = given.out / given.world
    taught = [name for name in given.labels if name != UNTRAINED]
    make_labels(given, folder / "labels", LABELS, ways)
    for seed in given.seeds:
        for name in taught:
            recipe = recipe_of(given, folder / "labels" / f"{name}.json", seed)
            trained(recipe, folder / given.student / f"{name}-{seed}")
    if given.train_only:
        return
    join = given.join or STUDENTS[given.student]
    arms = {}
    for name in given.labels:
        training = "" if name == UNTRAINED else name
        models = seeds_of(folder / given.student, training, given.seeds)
        way = "assignment" if name == UNTRAINED else join
        arms[name] = judge(given, training, given.steps if training else 0, models, way)
    with Table(given, COLUMNS) as table:
        add_rows(table, arms)


def recipe_of(given: argparse.Namespace, labels: Path, seed: int) -> Recipe:
    changes = {
        "data.train": [{"kind": "folder", "path": str(labels)}],
        "data.tune": None,
        "data.val": None,
        "model.base": given.student,
        "run.seed": seed,
        "run.steps": given.steps,
        "tracker.short_side": WORLDS[given.world][1].get("height", 160),
    }
    return config.load("nano-memory", [*given.set, *starmap(set_to, changes.items())])


def ways(
    video: Video, seen: Sequence[Detections], online: TrackerConfig, linker: TrackerConfig
) -> dict[str, Iterator[TrackResult]]:
    """The tracks of a video, by how its detections are joined."""
    masks = [rle.encode_many(frame.full_size(np.arange(len(frame)))[0]) for frame in seen]
    found = identities(seen, masks, video, online, linker)
    return {name: joined(seen, masks, ids, online, video.id) for name, ids in found.items()}


def identities(
    frames: Sequence[Detections],
    masks: Sequence[Sequence[Rle]],
    video: Video,
    online: TrackerConfig,
    linker: TrackerConfig,
) -> dict[str, list[Ints]]:
    """For each way to join them, the ids of every frame's detections; -1 for what is no object."""
    rng = np.random.default_rng(video.id)
    ways = {
        name: list(follow(frames, linker if ahead != 0 else online, ahead)) for name, ahead in AHEAD.items()
    }
    last = ways["ahead-all"]
    ways["true"] = list(true_identities(masks, video, ways["ahead-0"]))
    ways["shuffled"] = [
        shuffled(ids, frame.probs.argmax(1), rng) for frame, ids in zip(frames, last, strict=True)
    ]
    return ways


def follow(frames: Sequence[Detections], constants: TrackerConfig, ahead: int | None) -> Iterator[Ints]:
    linker = Linker(constants, ahead)
    for frame in frames:
        yield from linker.add(frame)
    yield from linker.finish()


def true_identities(
    masks: Sequence[Sequence[Rle]], video: Video, otherwise: Sequence[Ints]
) -> Iterator[Ints]:
    """The true track where a detection is on one, at most one each; elsewhere the ids that it had."""
    for t, (found, ids) in enumerate(zip(masks, otherwise, strict=True)):
        shown = [n for n, track in enumerate(video.tracks) if track.segmentations[t] is not None]
        iou = overlaps(found, [rle.of_track(video, video.tracks[n], t) for n in shown])
        answer = np.where(ids >= 0, ids + len(video.tracks), -1)
        for row, column in zip(*linear_sum_assignment(iou, maximize=True), strict=True):
            if iou[row, column] >= SHOWS:
                answer[row] = shown[column]
        yield answer


def overlaps(some: Sequence[Rle], others: Sequence[Rle]) -> Floats:
    """[N, M] the IoU of masks of one frame."""
    if not some or not others:
        return np.zeros((len(some), len(others)), np.float32)
    a, b = (rle.decode_many(masks).reshape(len(masks), -1).astype(np.float32) for masks in (some, others))
    shared = a @ b.T
    iou: Floats = shared / (a.sum(1)[:, None] + b.sum(1) - shared)
    return iou


def shuffled(ids: Ints, labels: Ints, rng: np.random.Generator) -> Ints:
    """The ids of a frame, permuted among the detections of each class."""
    answer = ids.copy()
    for label in np.unique(labels):
        rows = np.flatnonzero((labels == label) & (ids >= 0))
        answer[rows] = ids[rng.permutation(rows)]
    return answer


def joined(
    frames: Sequence[Detections],
    masks: Sequence[Sequence[Rle]],
    ids: Sequence[Ints],
    constants: TrackerConfig,
    video: int,
) -> Iterator[TrackResult]:
    """The tracks of a video, each under its best class."""
    results = VideoResults(constants.changed({"every_class": False}))
    for frame, found, numbers in zip(frames, masks, ids, strict=True):
        known = np.flatnonzero(numbers >= 0)
        results.add(numbers[known], frame.probs[known], [found[row] for row in known])
    return results.tracks(video, range(1, frames[0].probs.shape[1] + 1))
