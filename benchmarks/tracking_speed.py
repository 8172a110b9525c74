"""Where the time of a tracked frame goes, and whether memory or latency grow with the video.

The model is `nano` with random weights whose class scores are shifted until a wanted number of objects is
found, so that the work behind the model is what a trained one would cause. Times are processor time of the
thread, which other work on the machine disturbs little; frames a second on a clock need an idle machine.

    python benchmarks/tracking_speed.py VIDEO.mp4
    python benchmarks/tracking_speed.py VIDEO.mp4 --frames 20000 --short-side 64
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ookd.api import Tracker
from ookd.data import rle
from ookd.data.video import open_source
from ookd.drawing.overlay import Overlay
from ookd.models.families import family_of, presets, tracker_config
from ookd.models.zoo import build
from ookd.structures import FrameResult
from ookd.tracking import session
from ookd.tracking import torch_model as observe

WARM_UP = 5  # frames
BLOCK = 300  # frames between two lines of a long run


class Clock:
    """Processor milliseconds of each call, by stage."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = defaultdict(list)

    def watch(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **named: Any) -> Any:
            start = time.thread_time()
            answer = function(*arguments, **named)
            self.spent[stage].append(1000 * (time.thread_time() - start))
            return answer

        return watched

    def each(self, stage: str, items: Iterator[Any]) -> Iterator[Any]:
        take = self.watch(stage, lambda: next(items, None))
        while (item := take()) is not None:
            yield item


def make_tracker(objects: int, short_side: int, image: np.ndarray) -> Tracker:
    """Nano that finds so many objects in this image."""
    torch.manual_seed(0)
    model: Any = build(presets()["nano"]).eval()
    head = model.heads.classify
    torch.nn.init.normal_(head.weight, std=0.3)
    config = tracker_config(
        "compact",
        {
            "short_side": short_side,
            "mask_nms": 1.0,
            "first_score": 0.5,
            "new_score": 0.5,
            "select_score": 0.5,
        },
    )
    device = torch.device("cpu")
    preprocessing = family_of(model).preprocessing
    frames, pad, _ = observe.prepare([image], short_side, preprocessing, device)
    with torch.inference_mode():
        logits = model(preprocessing.normalise(frames, pad), pad)[0].logits[0].amax(-1)
    with torch.no_grad():
        head.bias -= logits.sort(descending=True).values[objects - 1 : objects + 1].mean()
    return Tracker(model, [f"class {k}" for k in range(model.config.classes)], config, device)


def stages(source: Path, tracker: Tracker, count: int) -> None:
    clock = Clock()
    observe.prepare = clock.watch("resize and pad", observe.prepare)
    session.advance = clock.watch("associate", session.advance)
    session.full_size = clock.watch("masks to full size", session.full_size)
    model, forward = tracker.model, tracker.model.forward

    def watched(*arguments: Any) -> Any:
        queries, state = clock.watch("model", forward)(*arguments)
        queries.masks = clock.watch("mask logits", queries.masks)
        return queries, state

    model.forward = watched
    step = clock.watch("step", tracker.session().step)
    draw = clock.watch("draw", Overlay(trails=False).draw)
    encode = clock.watch("run lengths", rle.encode_many)
    objects = []
    with open_source(source) as frames:
        for image in clock.each("decode", islice(iter(frames), WARM_UP + count)):
            result: FrameResult = step(image)
            encode(result.masks)
            draw(result)
            objects.append(len(result))
    typical = {stage: float(np.median(times[WARM_UP:])) for stage, times in clock.spent.items()}
    model_time = typical["model"] + typical["mask logits"]
    typical["select, suppress, report"] = (
        typical["step"]
        - model_time
        - sum(typical[stage] for stage in ("resize and pad", "associate", "masks to full size"))
    )
    behind = typical["step"] - model_time - typical["resize and pad"]
    print(f"{source.name}: {image.shape[1]}x{image.shape[0]}, {np.mean(objects):.1f} objects a frame")
    for stage, milliseconds in typical.items():
        print(f"  {stage:26s} {milliseconds:7.2f} ms")
    print(f"  tracking and post-processing: {100 * behind / model_time:.1f} % of the model's time")


def long_run(source: Path, tracker: Tracker, count: int) -> None:
    """The video over and over: memory of the process and latency of each block of frames."""
    with open_source(source) as frames:
        images = list(islice(iter(frames), 60))
    live = tracker.session()
    latency: list[float] = []
    first = 0
    for number, image in enumerate(islice(chain.from_iterable(repeat(images)), count), 1):
        start = time.thread_time()
        live.step(image)
        latency.append(1000 * (time.thread_time() - start))
        if number % BLOCK == 0:
            memory = resident()
            first = first or memory
            if number in (BLOCK, count // BLOCK * BLOCK) or number % (10 * BLOCK) == 0:
                p50, p99 = np.percentile(latency[-BLOCK:], [50, 99])
                grown = memory - first
                print(f"  frame {number:6d}: p50 {p50:6.2f} ms, p99 {p99:6.2f} ms, memory {grown:+.1f} MB")


def resident() -> float:
    """Memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--objects", type=int, default=6)
    parser.add_argument("--short-side", type=int, default=160)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with open_source(arguments.source) as frames:
        image = next(iter(frames))
    tracker = make_tracker(arguments.objects, arguments.short_side, image)
    if arguments.frames > BLOCK:
        long_run(arguments.source, tracker, arguments.frames)
    else:
        stages(arguments.source, tracker, arguments.frames)


if __name__ == "__main__":
    main()
