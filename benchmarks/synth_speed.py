"""How fast synthetic video is drawn on one core, whole videos and short random clips.

Processor time is counted, so that other work on the machine disturbs little.

    python benchmarks/synth_speed.py --composite davis/instances_train.json
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ookd.data.formats import load
from ookd.worlds import PRESETS, World
from ookd.worlds.composite import Composite
from ookd.worlds.drawn import DrawnVideos


def frames_a_second(draw: Callable[[int], int], seconds: float) -> float:
    """`draw` draws something of a numbered video and says how many frames that was."""
    draw(0)  # fills the noise pool and OpenCV's tables
    start, frames, index = time.process_time(), 0, 1
    while time.process_time() - start < seconds:
        frames += draw(index)
        index += 1
    return frames / (time.process_time() - start)


def clips(world: DrawnVideos[Any], count: int) -> Callable[[int], int]:
    """`count` frames in a row from somewhere in the video."""
    rng = np.random.default_rng(0)

    def draw(index: int) -> int:
        start = int(rng.integers(world.video_length(index) - count + 1))
        return len(world.clip(index, range(start, start + count)).images)

    return draw


def truths(world: DrawnVideos[Any]) -> Callable[[int], int]:
    """The masks of a whole video, unpainted."""
    return lambda index: len([world.scene(index).truth(t) for t in range(world.frames)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--height", type=int, default=160)
    parser.add_argument("--width", type=int, default=288)
    parser.add_argument("--seconds", type=float, default=4, help="of processor time a cell")
    parser.add_argument("--composite", type=Path, help="also a composite of this annotated data set")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    print(f"frames/s of one core at {options.height}x{options.width}\n")
    print("| world | whole videos | 6-frame clips | 2-frame clips | masks only |")
    print("|---|---|---|---|---|")
    size = {"height": options.height, "width": options.width}
    worlds: dict[str, DrawnVideos[Any]] = {name: World(name, videos=100_000, **size) for name in PRESETS}
    if options.composite:
        worlds["composite"] = Composite(load(options.composite), videos=100_000, **size)
    for name, world in worlds.items():
        work = [clips(world, world.frames), clips(world, 6), clips(world, 2), truths(world)]
        cells = [f"{frames_a_second(draw, options.seconds):.0f}" for draw in work]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
