"""`ookd tune`: constants found, checked on unseen videos, written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.data_and_model import write_data, write_model
from ookd.cli import main
from ookd.models import zoo
from ookd.tracking.config import TrackerConfig


@pytest.fixture
def given(tmp_path) -> tuple[str, str, str]:
    return str(write_data(tmp_path)), str(write_model(tmp_path / "model")), str(tmp_path / "frames")


def run(given: tuple[str, str, str], *more: str) -> int:
    data, model, frames = given
    options = ["--frames", frames, "--device", "cpu", "--trials", "8", "--jobs", "1", *more]
    return main(["tune", model, data, *options])


def test_constants_are_written_unless_they_lose_on_unseen_videos(given, capsys) -> None:
    weights = (Path(given[1]) / "model.safetensors").read_bytes()
    before = zoo.load(given[1]).tracker
    assert run(given, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    after = zoo.load(given[1]).tracker
    assert summary["written"] == (summary["unseen"]["after"] >= summary["unseen"]["before"])
    assert summary["searched"]["after"] >= summary["searched"]["before"]
    assert (summary["searched"]["videos"], summary["unseen"]["videos"]) == (2, 2)
    if summary["written"]:
        TrackerConfig.model_validate(after)
        assert all(after[name] == new for name, (_, new) in summary["changed"].items())
    else:
        assert after == before
    assert (Path(given[1]) / "model.safetensors").read_bytes() == weights


def test_a_name_that_is_no_folder_cannot_be_written_to(given, capsys) -> None:
    assert run((given[0], "nano", given[2])) == 2
    assert "not a model folder" in capsys.readouterr().err


def test_too_few_annotated_videos(given, tmp_path, capsys) -> None:
    data = json.loads(Path(given[0]).read_text())
    data["annotations"] = data["annotations"][:2]
    few = tmp_path / "few.json"
    few.write_text(json.dumps(data))
    assert run((str(few), *given[1:])) == 2
    assert "at least 3 annotated videos" in capsys.readouterr().err
