"""How fast training batches are made, with and without Minor-Paste.

Frames a second are counted on the clock with `--workers` processes, so the machine should be idle; the
processor time of a frame, measured in one process, is disturbed little by other work. Frames are scaled to a
short side of 160, flipped and recoloured; clips are IDOL's pairs and teacher clips of five frames.

    python benchmarks/loader_speed.py --data FOLDER
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import cv2

from ookd.clips.loader import make_loader
from ookd.clips.minor_paste import MinorPaste, MinorPasteConfig
from ookd.clips.sampling import ClipSampler, FrameSampler, PairSampler
from ookd.clips.sources import ClipDataset, ClipSource, DatasetClips
from ookd.clips.transforms import Augment, RandomColour, RandomFlip, RandomShortSide
from ookd.data.formats import load
from ookd.structures import Batch
from ookd.worlds import World

FRAMES = 16  # in a batch, about
WARM_UP = 4  # batches


def clips(source: ClipSource, sampler: FrameSampler, paste: bool) -> ClipDataset:
    augment = Augment(RandomShortSide((160,)), RandomFlip(), RandomColour())
    pasting = [MinorPaste(source, MinorPasteConfig(probability=1.0))] if paste else []
    return ClipDataset(source, sampler, [*pasting, augment])


def count(batches: Iterator[Batch]) -> int:
    return sum(batch.frames.shape[0] * batch.frames.shape[1] for batch in batches)


def on_the_clock(dataset: ClipDataset, batch_size: int, workers: int, batches: int) -> float:
    """Frames a second."""
    loader = iter(make_loader(dataset, batch_size, workers=workers))
    count(islice(loader, WARM_UP * workers))
    start = time.perf_counter()
    return count(islice(loader, batches)) / (time.perf_counter() - start)


def processor_time(dataset: ClipDataset, batch_size: int, batches: int) -> float:
    """Milliseconds a frame."""
    loader = iter(make_loader(dataset, batch_size, workers=0))
    count(islice(loader, WARM_UP))
    start = time.process_time()
    frames = count(islice(loader, batches))
    return 1000 * (time.process_time() - start) / frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a data set on disk, measured beside the synthetic worlds")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batches", type=int, default=30)
    options = parser.parse_args()
    cv2.setNumThreads(1)

    sources: dict[str, ClipSource] = {name: World(name, videos=700) for name in ("ytvis-like", "ovis-like")}
    if options.data is not None:
        sources[options.data.name] = DatasetClips(load(options.data, "train"))
    samplers: dict[str, tuple[FrameSampler, int]] = {"pairs": (PairSampler(), 2), "five": (ClipSampler(), 5)}
    print(f"| source | clips | Minor-Paste | frames/s, {options.workers} workers | ms of processor a frame |")
    print("|---|---|---|---|---|")
    for name, source in sources.items():
        for kind, (sampler, length) in samplers.items():
            for paste in (False, True):
                dataset = clips(source, sampler, paste)
                speed = on_the_clock(dataset, FRAMES // length, options.workers, options.batches)
                cost = processor_time(dataset, FRAMES // length, options.batches)
                pasted = "every clip" if paste else "no"
                print(f"| {name} | {kind} | {pasted} | {speed:.0f} | {cost:.1f} |", flush=True)


if __name__ == "__main__":
    main()
