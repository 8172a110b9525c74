"""`ookd bench` with a small model: every number that it promises, from a process of its own."""

from __future__ import annotations

import json

import pytest
import torch

from ookd.cli import main
from ookd.data.video import VideoWriter
from ookd.models import zoo
from ookd.models.idol.model import Idol
from test_api import TINY
from tracking.colour_model import scene

STAGES = ["decode", "preprocess", "network", "select and track", "masks and run lengths", "write"]


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    zoo.save_pretrained(Idol(TINY), tmp_path / "tiny", ["a", "b", "c"])
    with VideoWriter(tmp_path / "squares.mp4", 25) as writer:
        for frame in range(12):
            writer.write(scene(frame))
    return tmp_path


def test_numbers(folder, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bench", str(folder / "tiny"), "--source", str(folder / "squares.mp4"), "--size", "64x96"]
    assert main([*command, "--runtime", "torch", "--frames", "10", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert list(answer["stages_ms"]) == STAGES
    assert all(milliseconds > 0 for milliseconds in answer["stages_ms"].values())
    assert answer["frames"] == 10
    assert 0 < answer["latency_ms"]["p50"] <= answer["latency_ms"]["p90"] <= answer["latency_ms"]["p99"]
    assert answer["latency_ms"]["p50"] > answer["stages_ms"]["network"] / 2
    assert answer["fps"] > 0
    assert answer["first_result_s"] > 0.1  # PyTorch alone takes longer to import
    assert 100 < answer["memory_mb"] < 4000
    assert answer["machine"]["cores"] >= 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--size", "big"], "--size big: should be height x width"),
        (["--runtime", "abacus"], "runtime abacus: choose from auto"),
        (["--source", "nowhere.mp4"], "nowhere.mp4: no such file"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(folder, options, said, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(folder / "tiny"), "--source", str(folder / "squares.mp4"), *options]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1
