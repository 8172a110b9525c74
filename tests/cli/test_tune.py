"""`ookd tune`: constants found, checked on unseen videos, written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from cli.data_and_model import write_model
from ookd import api
from ookd.cli import main
from ookd.models import zoo
from ookd.models.families import tracker_config
from tracking.colour_model import NAMES, ColourModel, Scenes


@pytest.fixture
def given(tmp_path, monkeypatch) -> tuple[str, str]:
    """Scenes, and a model folder behind which stands the colour model, with the folder's constants."""
    model = write_model(tmp_path / "model")

    def load(folder: Path, device: str) -> api.Tracker:
        config = tracker_config("idol", zoo.load(folder).tracker)
        return api.Tracker(ColourModel(), NAMES, config, torch.device(device))

    monkeypatch.setattr(api, "load", load)
    return str(Scenes().write(tmp_path / "data")), str(model)


def run(given: tuple[str, str], *more: str) -> int:
    data, model = given
    return main(["tune", model, data, "--device", "cpu", "--trials", "8", "--jobs", "1", *more])


def test_better_constants_are_written(given, capsys) -> None:
    model = Path(given[1])
    weights = (model / "model.safetensors").read_bytes()
    zoo.save_tracker(model, {"horizon": 3, "match": 0.9, "first_score": 0.7})  # forgets and doubts
    assert run(given, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["written"]
    assert (summary["searched"]["videos"], summary["unseen"]["videos"]) == (4, 2)
    for part in ("searched", "unseen"):
        assert summary[part]["after"] > summary[part]["before"] + 0.05
    written = zoo.load(model).tracker
    assert written["short_side"] == 480  # what is not searched stays
    assert all(written[name] == new for name, (_, new) in summary["changed"].items())
    assert (model / "model.safetensors").read_bytes() == weights


def test_another_associator_is_begun_with_and_written(given, capsys) -> None:
    zoo.save_tracker(Path(given[1]), {"horizon": 3})
    assert run(given, "--associator", "assignment", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["written"]
    assert summary["changed"]["associator"] == ["memory", "assignment"]
    assert zoo.load(given[1]).tracker["associator"] == "assignment"
    assert run(given, "--associator", "magic") == 2
    assert "choose from assignment, memory" in capsys.readouterr().err


def test_what_links_tracks_is_searched_by_itself(given, capsys) -> None:
    zoo.save_tracker(Path(given[1]), {"horizon": 3, "link": {"match": 0.99, "keep": 0.9}})  # joins nothing
    assert run(given, "--offline", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["written"]
    assert list(summary["changed"]) == ["link"]
    assert summary["unseen"]["after"] > summary["unseen"]["before"] + 0.05


def test_constants_that_lose_on_unseen_videos_are_not_written(given, capsys, monkeypatch) -> None:
    before = (Path(given[1]) / "config.json").read_bytes()
    forgetful = tracker_config("idol", {"horizon": 1})
    tuned = type("Tuned", (), {"config": forgetful, "ap": 0.9, "start_ap": 0.1})
    monkeypatch.setattr("ookd.tune.search.tune", lambda *_: tuned)
    assert run(given) == 0
    output = capsys.readouterr().out
    assert "horizon  10 -> 1" in output
    assert "not changed, because AP falls on unseen videos" in output
    assert (Path(given[1]) / "config.json").read_bytes() == before


def test_a_name_that_is_no_folder_cannot_be_written_to(given, capsys) -> None:
    assert run((given[0], "nano")) == 2
    assert "not a model folder" in capsys.readouterr().err


def test_too_few_annotated_videos(given, tmp_path, capsys) -> None:
    data = json.loads(Path(given[0]).read_text())
    data["annotations"] = [track for track in data["annotations"] if track["video_id"] <= 2]
    few = Path(given[0]).with_name("few.json")
    few.write_text(json.dumps(data))
    assert run((str(few), given[1])) == 2
    assert "at least 3 annotated videos" in capsys.readouterr().err
