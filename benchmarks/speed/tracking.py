"""Do memory or latency grow with the length of a video?

The frames of a video are shown to a tracker over and over. Each row is a block of 300 frames: processor time
of a frame, which other work disturbs little, and the rise of the peak of memory since the first block. `ookd
bench` shows where the time of a frame goes.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from itertools import chain, islice, repeat
from pathlib import Path

import numpy as np

from measuring import Table, peak_memory
from ookd.api import load
from ookd.data.video import open_source

BLOCK = 300  # frames


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("video", type=Path)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--frames", type=int, default=6000)
    parser.add_argument("--short-side", type=int, default=160)
    parser.set_defaults(threads=1)


def run(given: argparse.Namespace) -> None:
    with open_source(given.video) as frames:
        images = list(islice(iter(frames), 60))
    tracker = load(given.model, "cpu")
    config = tracker.config.model_copy(update={"short_side": given.short_side})
    session = replace(tracker, config=config).session()
    endless = chain.from_iterable(repeat(images))
    columns = {"to frame": "", "objects": ".1f", "p50 ms": ".2f", "p99 ms": ".2f", "memory MB": "+.1f"}
    first = 0.0
    with Table(given, columns) as table:
        for done in range(BLOCK, given.frames + 1, BLOCK):
            milliseconds, objects = [], []
            for image in islice(endless, BLOCK):
                start = time.thread_time()
                objects.append(len(session.step(image)))
                milliseconds.append(1000 * (time.thread_time() - start))
            memory = peak_memory() / 1e6
            first = first or memory
            table.add(done, np.mean(objects), *np.percentile(milliseconds, [50, 99]), memory - first)
