"""How fast synthetic video is drawn on one core, in processor time: whole videos and short random clips."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from measuring import Table
from ookd.data.formats import load
from ookd.worlds import PRESETS, World
from ookd.worlds.composite import Composite
from ookd.worlds.drawn import DrawnVideos


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, nargs=2, default=(160, 288), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--seconds", type=float, default=4, help="of processor time for each number")
    parser.add_argument("--composite", type=Path, help="also a composite of this annotated data set")


def run(given: argparse.Namespace) -> None:
    cv2.setNumThreads(1)
    size = {"videos": 100_000, "height": given.size[0], "width": given.size[1]}
    worlds: dict[str, DrawnVideos[Any]] = {name: World(name, **size) for name in PRESETS}
    if given.composite:
        worlds["composite"] = Composite(load(given.composite), **size)
    kinds = ("whole videos", "6-frame clips", "2-frame clips", "masks only")
    with Table(given, {"world": "", **{f"{kind}, frames/s": ".0f" for kind in kinds}}) as table:
        for name, world in worlds.items():
            work = [clips(world, world.frames), clips(world, 6), clips(world, 2), masks(world)]
            table.add(name, *(frames_a_second(draw, given.seconds) for draw in work))


def frames_a_second(draw: Callable[[int], int], seconds: float) -> float:
    """`draw` draws something of a numbered video and returns its number of frames."""
    draw(0)  # fills the noise pool and OpenCV's tables
    start, frames, index = time.process_time(), 0, 1
    while time.process_time() - start < seconds:
        frames += draw(index)
        index += 1
    return frames / (time.process_time() - start)


def clips(world: DrawnVideos[Any], count: int) -> Callable[[int], int]:
    """`count` frames in a row from a random place of the video."""
    rng = np.random.default_rng(0)

    def draw(index: int) -> int:
        start = int(rng.integers(world.video_length(index) - count + 1))
        return len(world.clip(index, range(start, start + count)).images)

    return draw


def masks(world: DrawnVideos[Any]) -> Callable[[int], int]:
    """The masks of a whole video, without its pictures."""
    return lambda index: len([world.scene(index).truth(t) for t in range(world.frames)])
