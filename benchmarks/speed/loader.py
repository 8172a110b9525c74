"""How fast training batches are made, with and without Minor-Paste.

Frames a second are by the clock, with the loader's processes, so the machine should be idle. Processor time
is that of one process; other work disturbs it little. Frames have a short side of 160 and are flipped and
recoloured. Clips are IDOL's pairs, and five frames as for a teacher.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import cv2

from measuring import Table
from ookd.clips.loader import make_loader
from ookd.clips.minor_paste import MinorPaste, MinorPasteConfig
from ookd.clips.sampling import ClipSampler, FrameSampler, PairSampler
from ookd.clips.sources import ClipDataset, ClipSource, DatasetClips
from ookd.clips.transforms import Augmentation, RandomColour, RandomFlip, RandomShortSide
from ookd.data.formats import load
from ookd.structures import Batch
from ookd.worlds import World

FRAMES = 16  # in a batch, about
WARM_UP = 4  # batches


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, help="annotated videos, besides the synthetic worlds")
    parser.add_argument("--workers", type=int, default=2, help="loader processes")
    parser.add_argument("--batches", type=int, default=30)


def run(given: argparse.Namespace) -> None:
    cv2.setNumThreads(1)
    sources: dict[str, ClipSource] = {name: World(name, videos=700) for name in ("ytvis-like", "ovis-like")}
    if given.data is not None:
        sources[given.data.name] = DatasetClips(load(given.data, "train"))
    samplers: dict[str, tuple[FrameSampler, int]] = {"pairs": (PairSampler(), 2), "five": (ClipSampler(), 5)}
    columns = {"source": "", "clips": "", "Minor-Paste": "", "frames/s": ".0f", "processor ms a frame": ".1f"}
    with Table(given, columns) as table:
        for name, source in sources.items():
            for kind, (sampler, length) in samplers.items():
                for paste in (False, True):
                    dataset = clips(source, sampler, paste)
                    size = FRAMES // length
                    speed = 1 / seconds_a_frame(
                        dataset, size, given.workers, given.batches, time.perf_counter
                    )
                    cost = 1000 * seconds_a_frame(dataset, size, 0, given.batches, time.process_time)
                    table.add(name, kind, "every clip" if paste else "no", speed, cost)


def clips(source: ClipSource, sampler: FrameSampler, paste: bool) -> ClipDataset:
    augment = Augmentation(RandomShortSide((160,)), RandomFlip(), RandomColour())
    pasting = [MinorPaste(source, MinorPasteConfig(probability=1.0))] if paste else []
    return ClipDataset(source, sampler, [*pasting, augment])


def seconds_a_frame(
    dataset: ClipDataset, batch_size: int, workers: int, batches: int, clock: Callable[[], float]
) -> float:
    loader = iter(make_loader(dataset, batch_size, workers=workers))
    count_frames(islice(loader, WARM_UP * max(1, workers)))
    began = clock()
    frames = count_frames(islice(loader, batches))
    return (clock() - began) / frames


def count_frames(batches: Iterator[Batch]) -> int:
    return sum(batch.frames.shape[0] * batch.frames.shape[1] for batch in batches)
