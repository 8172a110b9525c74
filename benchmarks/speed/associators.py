"""The cost of tracking besides the network, by associator, in a crowd.

A synthetic scene with many objects is tracked frame by frame. Each row has the median processor time of a
frame in the network, in selection with its masks, and in association with full-size masks; then the share of
the last two, and the objects in memory at the end.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from measuring import Table
from ookd.api import load
from ookd.tracking.associators import ASSOCIATORS
from ookd.tracking.frame_model import detect
from ookd.tracking.recordings import recordings
from ookd.tracking.torch_model import TorchFrameModel
from ookd.tracking.video_tracker import VideoTracker
from ookd.worlds import World


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="nano")
    parser.add_argument("--objects", type=int, default=40)
    parser.add_argument("--frames", type=int, default=60)
    parser.set_defaults(threads=1)


def run(given: argparse.Namespace) -> None:
    tracker = load(given.model, "cpu")
    model, constants = tracker.online()
    network = TorchFrameModel(model)
    # everything that looks at all like an object is followed, and nothing is forgotten
    eager = {"select_score": 0.05, "mask_nms": 0.9, "first_score": 0.05, "new_score": 0.05, "horizon": 1000}
    crowd = (given.objects, given.objects)
    world = World("ovis-like", split="test", videos=1, frames=given.frames, crowd=crowd)
    images = list(recordings(world)[0].images())
    columns = {"associator": "", **dict.fromkeys(["network ms", "select ms", "track ms", "share %"], ".1f")}
    with Table(given, {**columns, "detections": ".1f", "in memory": ""}) as table:
        for associator in ASSOCIATORS:
            config = constants.changed({**eager, "associator": associator})
            following, state = VideoTracker(config, tracker.names), network.begin(1)
            spent, found = [], []
            for image in images:
                at = [time.thread_time()]
                predictions, state = network.infer([image], config.short_side, state)
                at.append(time.thread_time())
                (detections,) = detect(predictions, config)
                at.append(time.thread_time())
                following.step(detections)
                at.append(time.thread_time())
                spent.append(1000 * np.diff(at))
                found.append(len(detections))
            stages = np.median(spent, 0)
            assert following.memory is not None
            share = 100 * stages[1:].sum() / stages.sum()
            table.add(associator, *stages, share, np.mean(found), len(following.memory))
