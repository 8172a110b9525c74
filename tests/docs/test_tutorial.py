"""The commands of the tutorial, all of them, in their order, in an empty folder.

With OOKD_TUTORIAL=whole in the environment nothing is made smaller, and each command's seconds are told.
"""

from __future__ import annotations

import os
import shlex
import time
from pathlib import Path

import pytest

from docs.pages import ROOT, blocks
from ookd.cli import main

SMALL_MODEL = "{width: 32, mask_width: 16, embed: 16, heads: 4, hidden: 64, queries: 8, frozen: 5}"
SMALL_RUN = [
    f"model.change={SMALL_MODEL}",
    "data.augment.sides=[64]",
    "data.batch=2",
    "data.workers=0",
    "tracker.short_side=64",
    "run.steps=2",
    "run.precision=fp32",
    "run.threads=1",
]
SMALL_WORLD = ["frames=8", "height=64", "width=96"]

WHOLE = os.environ.get("OOKD_TUTORIAL") == "whole"

# what each command is given besides, so that it takes a second or two
LESS = {
    "data synth": ["--videos", "2", *(part for change in SMALL_WORLD for part in ("--set", change))],
    "train": [part for change in SMALL_RUN for part in ("--set", change)],
    "distill": [part for change in SMALL_RUN for part in ("--set", change)],
    "label": ["--score", "0", "--frames", "1"],  # after two steps it is sure of nothing
}


def less(given: list[str]) -> list[str]:
    return next((more for verb, more in LESS.items() if shlex.join(given).startswith(verb)), [])


def test_every_command_runs_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = []
    for block in blocks(ROOT / "docs" / "tutorial.md"):
        if block.title:
            Path(block.title).write_text(block.text)
        elif block.language == "sh":
            for line in block.text.replace("\\\n", " ").splitlines():
                program, *given = shlex.split(line)
                assert program == "ookd"
                given += [] if WHOLE else less(given)
                began = time.perf_counter()
                assert main(given) == 0, f"{line}\n{capsys.readouterr().err}"
                ran.append(f"{time.perf_counter() - began:6.0f} s  {line}")
    assert len(ran) > 12
    for left in ("look/sheet.png", "tracked/annotated.mp4", "report.html", "runs/taught/model", "labels"):
        assert Path(left).exists()
    told = capsys.readouterr().out
    if WHOLE:
        with capsys.disabled():
            print(told, *ran, sep="\n")
    assert "no problems" in told
    assert "AP" in told
