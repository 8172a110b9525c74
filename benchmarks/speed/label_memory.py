"""Does the memory of labelling grow with the length of a video?

Each labeller follows a drawn video whose scene, with all its objects, changes every 20 frames, in a process
of its own. Growth is the rise of the peak of resident memory after the first fifth of the video. Text
teachers take part if their folders or hub ids are given.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from measuring import Table, apart, peak_memory
from ookd.label.opening import LabellerChoice, open_labeller
from ookd.tracking.frame_model import Image
from ookd.tracking.recordings import Recording
from ookd.worlds import World

SCENE = 20  # frames
SETTLED = 5  # the share of the video after which caches and buffers are full is one of so many


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--sam3")
    parser.add_argument("--detector", help="a text detector, with --sam2")
    parser.add_argument("--sam2")
    parser.set_defaults(threads=1)


def run(given: argparse.Namespace) -> None:
    texts = ["person", "forklift=vehicle"]
    labellers = {
        given.model: LabellerChoice(given.model, device="cpu"),
        f"{given.model}, both ways": LabellerChoice(given.model, both_ways=True, device="cpu"),
    }
    if given.sam3:
        labellers["SAM 3"] = LabellerChoice(given.sam3, texts, device="cpu")
    if given.detector and given.sam2:
        labellers["detector, SAM 2"] = LabellerChoice(given.detector, texts, given.sam2, device="cpu")
    numbers = ["after a fifth (MB)", "at the end (MB)", "growth (MB)"]
    columns = {"labeller": "", "frames": "", "tracks": "", **dict.fromkeys(numbers, ".1f")}
    with Table(given, columns) as table:
        for name, choice in labellers.items():
            tracks, before, after = apart(measure, choice, given.frames)
            table.add(name, given.frames, tracks, before, after, after - before)


def measure(choice: LabellerChoice, frames: int) -> tuple[int, float, float]:
    """The tracks, and the peak of memory in MB after a share of the frames and when all are labelled."""
    labeller = open_labeller(choice)
    seen, before = 0, 0.0

    def on_frame() -> None:
        nonlocal seen, before
        seen += 1
        if seen == frames // SETTLED:
            before = peak_memory() / 1e6

    tracks = sum(1 for _ in labeller.tracks(video(frames), on_frame))
    return tracks, before, peak_memory() / 1e6


def video(frames: int) -> Recording:
    scenes = -(-frames // SCENE)
    world = World("ytvis-like", videos=scenes, height=96, width=160, frames=SCENE)

    def read(numbers: Sequence[int]) -> Iterator[Image]:
        for number in numbers:
            yield world.clip(number // SCENE, [number % SCENE]).images[0]

    return Recording(1, frames, read)
