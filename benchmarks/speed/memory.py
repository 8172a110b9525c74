"""Does memory grow with the length of a video?

Streams videos through reading alone, through reading and writing, and through all outputs of `ookd track`
with three moving objects a frame, each in a process of its own. Growth is the rise of the peak of resident
memory after frame 200.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from measuring import Table, apart, peak_memory
from ookd.data.video import FrameSource, VideoWriter, open_source
from ookd.structures import FrameResult
from ookd.tracking.sinks import SINKS, Sinks

SETTLED = 200  # frames until caches and buffers are full


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("videos", nargs="*", type=Path)
    parser.add_argument("--generated", type=int, default=20_000, help="frames of a video made for this")
    parser.add_argument("--height", type=int, default=72, help="of that video")


def run(given: argparse.Namespace) -> None:
    numbers = ["peak at frame 200 (MB)", "at the end (MB)", "growth (MB)"]
    columns = {"video": "", "frames": "", "through": "", **dict.fromkeys(numbers, ".1f")}
    with tempfile.TemporaryDirectory() as folder, Table(given, columns) as table:
        made = moving_bar(Path(folder) / "generated.mp4", given.generated, given.height)
        for video in [*given.videos, made]:
            for through in (read, read_and_write, all_outputs):
                with tempfile.TemporaryDirectory(dir=folder) as out:
                    frames, before, after = apart(measure, through, video, Path(out))
                table.add(
                    video.name, frames, through.__name__.replace("_", " "), before, after, after - before
                )


def measure(
    through: Callable[[FrameSource, Path], Iterator[None]], video: Path, out: Path
) -> tuple[int, float, float]:
    """Frames, and the peak of memory in MB at frame 200 and when all is closed."""
    frames, before = 0, 0.0
    with open_source(video) as source:
        for frames, _ in enumerate(through(source, out), 1):
            if frames == SETTLED:
                before = peak_memory() / 1e6
    return frames, before, peak_memory() / 1e6


def moving_bar(path: Path, frames: int, height: int) -> Path:
    with VideoWriter(path, fps=25) as writer:
        for i in range(frames):
            image = np.full((height, height * 16 // 9, 3), 60, np.uint8)
            image[:, i % height : i % height + 8] = 200
            writer.write(image)
    return path


def read(source: FrameSource, out: Path) -> Iterator[None]:
    del out
    for _ in source.frames():
        yield


def read_and_write(source: FrameSource, out: Path) -> Iterator[None]:
    with VideoWriter(out / "copy.mp4", source.fps) as writer:
        for frame in source.frames():
            writer.write(frame.image, frame.seconds)
            yield


def all_outputs(source: FrameSource, out: Path) -> Iterator[None]:
    """Three objects that live for 100 frames each: identities come and go as in a long recording."""
    with Sinks(out, list(SINKS), source, trails=True) as sinks:
        for frame in source.frames():
            height, width = source.height, source.width
            masks = np.zeros((3, height, width), bool)
            left = frame.index % (width // 2)
            boxes = np.array(
                [[left, height * i // 4, left + width // 4, height * (i + 1) // 4] for i in range(3)]
            )
            for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
                mask[y1:y2, x1:x2] = True
            ids = np.arange(3) + 3 * (frame.index // 100)
            scores = np.array([0.9, 0.8, 0.7], np.float32)
            sinks.write(
                FrameResult(
                    frame.index, ids, np.arange(3), scores, boxes.astype(np.float32), masks,
                    ("cat", "dog", "cow"), frame.image, frame.seconds,
                )
            )  # fmt: skip
            yield
