"""From one's own videos to a run: what it tells, and what its model is worth in the commands that follow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ookd.cli import main
from ookd.deploy import parity
from ookd.engine.begun import data_of_run
from ookd.worlds import World, write

SMALL = {"height": 64, "width": 96, "frames": 6, "crowd": [2, 3]}
FEW = ["run.threads=1", "data.workers=0", "data.batch=2", "data.augment.sides=[64]", "tracker.short_side=64"]


def train(data: Path, run: Path, *more: str) -> list[str]:
    changes = [*FEW, "model.start=nano", "optim.lr=1e-7"]  # the bundled weights, hardly changed
    given = [word for change in changes for word in ("--set", change)]
    return ["train", "nano", "--data", str(data), "--out", str(run), "--device", "cpu", *given, *more]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "my"
    for split, videos in {"train": 4, "val": 3}.items():
        write(World("ytvis-like", split, 0, videos, **SMALL), folder / split)
    return folder


@pytest.fixture(scope="module")
def run(data: Path) -> Path:
    folder = data.parent / "run"
    assert main(train(data, folder, "--set", "run.steps=3", "--set", "optim.warmup=1")) == 0
    return folder


def test_the_scores_of_a_run_are_those_of_predict_and_eval(
    data: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also of a run in bf16, of a data set with several splits, and of a folder that `predict` wrote."""
    assert "precision: bf16" in (run / "recipe.yaml").read_text()
    out = str(tmp_path / "out")
    assert main(["predict", str(data), "--split", "val", "--model", str(run / "model"), "--out", out]) == 0
    capsys.readouterr()
    assert main(["eval", "--gt", str(data), "--split", "val", "--pred", out, "--json"]) == 0
    counted = json.loads(capsys.readouterr().out)
    (validated,) = (line["val"] for line in map(json.loads, (run / "metrics.jsonl").open()) if "val" in line)
    assert validated["AP"] == counted["summary"]["AP"] > 0.01
    assert validated["AP75"] == counted["summary"]["AP75"]
    assert validated["HOTA"] == counted["tracking"]["hota"]


def test_a_set_with_splits_asks_for_one(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results.json").write_text("[]")
    assert main(["eval", "--gt", str(data), "--pred", str(tmp_path / "results.json")]) == 2
    assert "(train, val); name one as the split (--split)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("run.json", "not all videos are predicted; run `ookd predict` again"),
        ("notes.txt", "a result list"),
    ],
)
def test_a_folder_without_results(
    file: str, says: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / file).write_text("{}")
    assert main(["eval", "--gt", str(data / "val"), "--pred", str(tmp_path)]) == 2
    assert says in capsys.readouterr().err


def test_the_end_of_a_run_says_where_all_is(
    data: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train(data, run, "--set", "run.steps=3", "--set", "optim.warmup=1", "--resume")) == 0
    told = capsys.readouterr().out
    for place in (run / "model", run / "run.html"):
        assert str(place) in told
        assert place.exists()
    assert f"ookd track VIDEO --model {run}" in told


def test_the_page_is_about_the_own_videos(data: Path, run: Path) -> None:
    head = (run / "run.html").read_text().split("<h1>")[1][:300]
    assert f"The recipe nano on the videos of {data}." in head
    assert "synthetic world" not in head


def test_a_run_shorter_than_its_warm_up_says_so(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train(data, tmp_path / "run", "--set", "run.steps=1", "--set", "data.val=null")) == 0
    assert "rises for optim.warmup = 100 steps, and the run has 1" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["", "model", "best"])
def test_an_export_is_proved_on_the_videos_of_its_run(part: str, data: Path, run: Path) -> None:
    found = data_of_run(run / part)
    assert found == str(data)
    videos = parity.open_videos(found, "val", 9, (64, 96))
    assert [video.length for video in parity.recordings(videos)] == [6] * 3
    assert len(parity.recordings(parity.open_videos(found, "train", 9, (64, 96)))) == 4
    assert data_of_run(Path("nano")) is None


def test_a_time_is_planned_once_and_the_run_goes_on_exactly(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The plan is a recipe: what trains is the run of so many steps."""
    short = ["--set", "data.val=null", "--set", "run.precision=fp32"]
    planned = train(data, tmp_path / "a", *short, "--minutes", "0.25")
    assert main(planned) == 0
    recipe = (tmp_path / "a" / "recipe.yaml").read_text()
    steps = int(recipe.partition("steps: ")[2].split()[0])
    assert f"0.25 minutes: {steps} steps" in capsys.readouterr().err
    assert f"warmup: {steps // 10}\n" in recipe
    assert main([*planned, "--resume"]) == 0
    assert (tmp_path / "a" / "recipe.yaml").read_text() == recipe
    same = ["--set", f"run.steps={steps}", "--set", f"optim.warmup={steps // 10}"]
    assert main(train(data, tmp_path / "b", *short, *same)) == 0
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]
    assert main(train(data, tmp_path / "c", *short, "--minutes", "0.001")) == 2
    assert "0.001 minutes are too few: planning took" in capsys.readouterr().err
    assert not (tmp_path / "c" / "recipe.yaml").exists()


@pytest.mark.parametrize("verb", ["train", "distill"])
def test_a_device_that_is_no_word_for_one(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "nano", "--device", "gpu"]) == 2
    assert "'gpu'" in capsys.readouterr().err
