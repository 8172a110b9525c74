"""A folder of the hub's layout through the commands that users run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.tiny_videomt import NAMES, written
from ookd.cli import main
from ookd.models import licence, zoo

CARD = "---\nlicense: cc-by-nc-4.0\n---\n"
EASY = {"short_side": 64, "select_score": 0.0, "first_score": 0.0, "new_score": 0.0, "final_score": 0.0}


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model with random weights that believes whatever it sees."""
    monkeypatch.setattr(licence, "_announced", set())
    folder = written(tmp_path / "model", CARD)
    zoo.save_tracker(folder, EASY)
    return folder


@pytest.fixture
def video(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    folder = tmp_path / "videos" / "street"
    folder.mkdir(parents=True)
    for frame in range(5):
        Image.fromarray(random.integers(0, 255, (48, 80, 3), dtype=np.uint8)).save(
            folder / f"{frame:03d}.png"
        )
    return folder


def test_track_prints_the_licence(
    model: Path, video: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert (
        main(["track", str(video), "--model", str(model), "--out", str(out), "--save", "json", "--json"]) == 0
    )
    said = capfd.readouterr()
    assert json.loads(said.out)["frames"] == 5
    assert said.err.count("cc-by-nc-4.0 (NO COMMERCIAL USE)") == 1
    assert set(json.loads(said.out)["objects"]) <= set(NAMES)


def labelled(model: Path, video: Path, out: Path) -> Path:
    wanted = ["--score", "0", "--frames", "1"]
    assert main(["label", str(video.parent), "--model", str(model), "--out", str(out), *wanted]) == 0
    return out


def test_labels_remember_their_teacher(model: Path, video: Path, tmp_path: Path) -> None:
    out = labelled(model, video, tmp_path / "labels")
    (file,) = out.rglob("*.json")
    teacher = json.loads(file.read_text())["info"]["teacher"]
    assert teacher["licence"] == "cc-by-nc-4.0"
    assert teacher["id"] == str(model)
    assert len(teacher["fingerprint"]) == 16


def test_predict_takes_it(model: Path, video: Path, tmp_path: Path) -> None:
    labels, out = labelled(model, video, tmp_path / "labels"), tmp_path / "out"
    assert main(["predict", str(labels), "--model", str(model), "--out", str(out)]) == 0
    assert json.loads((out / "results.json").read_text())


def test_training_from_it_keeps_the_licence(model: Path, tmp_path: Path) -> None:
    world = "{kind: world, preset: ytvis-like, videos: 2, change: {height: 64, width: 96, frames: 5}}"
    changes = [
        f"data.train=[{world}]",
        "data.val=null",
        "data.tune=null",
        "data.batch=1",
        "data.workers=0",
        f"model.base={model}",
        "model.change={train_num_points: 32}",
        "run.steps=1",
        "run.precision=fp32",
    ]
    options = [part for change in changes for part in ("--set", change)]
    assert main(["train", "videomt-tiny", "--out", str(tmp_path / "run"), *options]) == 0
    trained = zoo.load(tmp_path / "run")
    assert trained.licence == "cc-by-nc-4.0"
    assert trained.trained_on == ""
