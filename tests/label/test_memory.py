"""Memory does not grow with the length of a video, whoever labels it.

OOKD_LABEL_FRAMES=1000 in the environment makes the video so long, and prints the figures of docs/labels.md.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from docs.pages import ROOT
from label import tiny_teachers
from ookd.label.opening import LabellerChoice, open_labeller
from ookd.tracking.recordings import Recording
from ookd.worlds import World

sys.path.append(str(ROOT / "benchmarks"))

from measuring import peak_memory

FRAMES = int(os.environ.get("OOKD_LABEL_FRAMES", "160"))
SETTLED = FRAMES // 2
GROWTH = 12.0  # MB that masks on disk, and an allocator, may take
LABELLERS: dict[str, dict[str, Any]] = {
    "sam3": {"teacher": "sam3", "texts": ["person", "forklift=vehicle"]},
    "dino and sam2": {"teacher": "dino", "texts": ["person"], "follow": "sam2"},
    "nano and linker": {"teacher": "nano"},
    "nano and linker, both ways": {"teacher": "nano", "both_ways": True},
}


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teachers")
    tiny_teachers.sam3(folder / "sam3")
    tiny_teachers.sam2(folder / "sam2")
    tiny_teachers.grounding_dino(folder / "dino")
    return folder


@pytest.mark.parametrize("name", LABELLERS)
def test_memory_stays(name: str, teachers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        before, after, tracks = process.submit(measured, name, teachers, FRAMES, SETTLED).result()
    with capsys.disabled():
        print(
            f"\n{name}: {before:.0f} MB after {SETTLED} frames, {after:.0f} MB after {FRAMES}, {tracks} tracks"
        )
    assert tracks
    assert after - before < GROWTH


def measured(name: str, teachers: Path, length: int, settled: int) -> tuple[float, float, int]:
    """The peak of memory in MB after some frames and after all, and the number of tracks."""
    import torch

    torch.set_num_threads(1)
    choice = {
        key: str(teachers / value) if value in ("sam3", "sam2", "dino") else value
        for key, value in LABELLERS[name].items()
    }
    labeller = open_labeller(LabellerChoice(**choice, device="cpu"))
    seen, before = 0, 0.0

    def on_frame() -> None:
        nonlocal seen, before
        seen += 1
        if seen == settled:
            before = peak_memory() / 1e6

    tracks = sum(1 for _ in labeller.tracks(video(length), on_frame))
    return before, peak_memory() / 1e6, tracks


def video(length: int) -> Recording:
    """A drawn video that starts again and again, with other objects each time."""
    world = World("ytvis-like", videos=max(1, length // 20), height=64, width=96, frames=20)

    def read(frames: Any) -> Iterator[Any]:
        for frame in frames:
            clip = world.clip(frame // 20 % len(world), [frame % 20])
            yield np.ascontiguousarray(clip.images[0])

    return Recording(1, length, read)
