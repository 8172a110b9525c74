"""What a frame costs is the difference between a long and a short video, whatever starting up takes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from docs.pages import ROOT

sys.path.append(str(ROOT / "benchmarks"))

from program import main
from speed.commands import measure

# sleeps for half a second, then works for 4 ms of processor time for each frame that the clip's name says
WORK = """
import pathlib, sys, time
time.sleep(0.5)
end = time.process_time() + 0.004 * int(pathlib.Path(sys.argv[1]).stem)
while time.process_time() < end: pass
"""


def test_starting_up_does_not_count(tmp_path: Path) -> None:
    clips, cores = {n: tmp_path / f"{n}.mp4" for n in (25, 150)}, sorted(os.sched_getaffinity(0))[:1]
    command = [sys.executable, "-c", WORK, "{clip}"]
    cost = measure({"work": command}, clips, tmp_path, 2, cores)["work"]
    assert cost.processor == pytest.approx([4, 4], abs=0.6)
    assert min(cost.clock) > 3.5
    assert cost.peak > 1


def test_an_environment_without_yolo_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["yolo", "--env", str(tmp_path)]) == 2
    assert f"{tmp_path}/bin/yolo is not there" in capsys.readouterr().err
