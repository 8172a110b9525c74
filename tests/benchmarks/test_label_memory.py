"""Memory does not grow with the length of a video that a text teacher labels: the benchmark, with tiny ones.

OOKD_LABEL_FRAMES=1000 in the environment makes the video so long and prints the table.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from docs.pages import ROOT
from label import tiny_teachers

FRAMES = os.environ.get("OOKD_LABEL_FRAMES", "60")
# MB: an allocator's share, and what the linker keeps of all frames
GROWTH = {"nano": 100.0, "nano, both ways": 150.0, "SAM 3": 16.0, "detector, SAM 2": 24.0}


def test_memory_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_teachers.sam3(tmp_path / "sam3")
    tiny_teachers.sam2(tmp_path / "sam2")
    tiny_teachers.grounding_dino(tmp_path / "dino")
    given = {
        "frames": FRAMES,
        "sam3": tmp_path / "sam3",
        "detector": tmp_path / "dino",
        "sam2": tmp_path / "sam2",
    }
    command = [sys.executable, str(ROOT / "benchmarks"), "label-memory", "--threads", "1"]
    command += [word for name, value in given.items() for word in (f"--{name}", str(value))]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    with capsys.disabled():
        print(table if FRAMES == "1000" else "", end="")
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if f" | {FRAMES} | " in line]
    assert [row[0] for row in rows] == list(GROWTH)
    for row in rows:
        assert int(row[2]) > 0
        assert float(row[5]) < GROWTH[row[0]], row
