"""How often students switch identities where two of them find the same object.

A student that finds more objects, and harder ones, has more identities to switch, so plain counts are not
comparable. Here the students of an ablation track the same videos with the constants of their family, which
were not tuned for any of them. A true mask is shared if the first arm and the other one both overlap it by
half with a prediction of its class. A switch is a change of that prediction's track from one shared mask of
an object to its next. Intervals are a paired bootstrap over videos.

A student's tracks are kept next to its model, so several processes can do different seeds first.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco
from scipy.optimize import linear_sum_assignment

from learning.judge import switch_rate
from learning.splits import Split, data_source
from learning.summary import drawings, place
from measuring import Table
from ookd.data.rle import from_any
from ookd.files import write_file
from ookd.models import zoo
from ookd.models.families import tracker_config
from ookd.structures import Track, TrackResult, Video
from ookd.tracking.predict import predict

NOBODY, OVERLAP = -1, 0.5


def options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("out", type=Path, help="folder of the ablation")
    add("--arms", nargs="+", required=True, help="the others are compared with the first")
    add("--seeds", type=int, nargs="+", default=[0])
    add("--test", required=True, help="annotated videos, or a source as recipes write it")


def run(given: argparse.Namespace) -> None:
    split = Split(data_source(given.test))
    first, *others = (
        [partners(place(given.out, arm, seed), split) for seed in given.seeds] for arm in given.arms
    )
    masks = video_of_masks(split.truth.videos)
    rates = {f"switches in 1000: {given.arms[0]}": ".1f", "of the arm": ".1f"}
    differences = dict.fromkeys(["difference", "low", "high"], "+.1f")
    with Table(given, {"arm": "", "shared masks": "", **rates, **differences}) as table:
        for arm, other in zip(given.arms[1:], others, strict=True):
            pairs = zip(first, other, strict=True)
            counts = np.stack([shared_switches(a, b, masks) for a, b in pairs])  # [S, V, 3]
            drawn = drawings(counts.shape[1]) @ counts.sum(0)  # [R + 1, 3]
            a, b = (switch_rate(drawn[:, column], drawn[:, 2]) for column in (0, 1))
            low, high = np.percentile((b - a)[1:], [2.5, 97.5])
            table.add(arm, drawn[0, 2], a[0], b[0], b[0] - a[0], low, high)


def partners(folder: Path, split: Split) -> NDArray[np.int64]:
    """Of every true mask, by video, object and frame, the number of the predicted track on it."""
    videos = hashlib.sha256(split.data.model_dump_json().encode()).hexdigest()[:8]
    path = folder / f"partners-{videos}.json"
    if not path.exists():
        saved = zoo.load(folder / "model", "cuda" if torch.cuda.is_available() else "cpu")
        constants = tracker_config(saved.model.config.family, saved.tracker)
        device = next(saved.model.parameters()).device.type
        with torch.autocast(device, torch.bfloat16):
            results = predict(saved.model, split.source, constants, saved.names)
        by_video: dict[int, list[TrackResult]] = {}
        for result in results:
            by_video.setdefault(result.video_id, []).append(result)
        numbers = [n for v in split.truth.videos for n in matched(v, by_video.get(v.id, []))]
        write_file(path, json.dumps(numbers))
    return np.array(json.loads(path.read_text()))


def matched(video: Video, results: Sequence[TrackResult]) -> Iterator[int]:
    """The index in `results` of the prediction on each true mask, object by object."""
    partner = {id(track): np.full(video.length, NOBODY) for track in video.tracks}
    for category in {track.category_id for track in video.tracks}:
        tracks = [track for track in video.tracks if track.category_id == category]
        rivals = [i for i, result in enumerate(results) if result.category_id == category]
        for t in range(video.length):
            shown = [track for track in tracks if track.segmentations[t] is not None]
            there = [i for i in rivals if results[i].segmentations[t] is not None]
            if shown and there:
                masks = [results[i].segmentations[t] for i in there]
                truth = [from_any(track.segmentations[t], video.height, video.width) for track in shown]
                iou = coco.iou(masks, truth, [0] * len(shown))
                gain = np.where(np.asarray(iou) >= OVERLAP, iou, 0)
                for row, column in zip(*linear_sum_assignment(gain, maximize=True), strict=True):
                    if gain[row, column] > 0:
                        partner[id(shown[column])][t] = there[row]
    for track in video.tracks:
        yield from partner[id(track)][shown_in(track)].tolist()


def shown_in(track: Track) -> NDArray[np.bool_]:
    return np.array([mask is not None for mask in track.segmentations])


def video_of_masks(videos: Sequence[Video]) -> NDArray[np.int64]:
    """[M, 2] the index of video and object of every true mask."""
    objects = [(i, track) for i, video in enumerate(videos) for track in video.tracks]
    return np.array([(i, n) for n, (i, track) in enumerate(objects) for _ in range(shown_in(track).sum())])


def shared_switches(
    a: NDArray[np.int64], b: NDArray[np.int64], masks: NDArray[np.int64]
) -> NDArray[np.int64]:
    """[V, 3] switches of a, of b, and the masks that both have found."""
    both = (a >= 0) & (b >= 0)
    video, thing = masks[both].T
    same = thing[1:] == thing[:-1]
    columns = [np.append(False, same & (x[both][1:] != x[both][:-1])) for x in (a, b)]
    columns.append(np.ones(len(video), bool))
    videos = int(masks[:, 0].max()) + 1
    return np.stack([np.bincount(video, column, videos).astype(np.int64) for column in columns], -1)
