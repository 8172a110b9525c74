"""Memory does not grow with the length of a video: the benchmark, on a short one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).parents[2] / "benchmarks"


def test_memory_stays() -> None:
    command = [sys.executable, str(PROGRAM), "memory", "--generated", "450", "--height", "400"]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| generated")]
    assert [row[2] for row in rows] == ["read", "read and write", "all outputs"]
    for row in rows:
        assert row[1] == "450"
        assert float(row[5]) < 10
