"""`ookd demo --distill` with two steps on tiny frames: a fair pair of trainings, once, and a true table."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ookd import config
from ookd.cli import demo_distill, main
from ookd.engine.loop import Interrupted
from ookd.files import fingerprint
from ookd.models import zoo

LESS = [
    "data.train.0.change={height: 96, width: 160, frames: 4, crowd: [2, 3], size: [0.4, 0.7]}",
    "data.batch=1",
    "data.workers=0",
    "run.log_every=1",
    "run.precision=fp32",
    "run.threads=1",
    "tracker.short_side=96",
]
SCENES = 1


@pytest.fixture(scope="module")
def less() -> Iterator[None]:
    """The demo's recipe, but small."""
    whole = config.load
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_distill, "SCENES", SCENES)
        patch.setattr(
            config, "load", lambda name, changes=(): whole(name, [*changes, *LESS * (name == "nano-demo")])
        )
        yield


@pytest.fixture(scope="module")
def out(less: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished demo."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    assert main(arguments(folder)) == 0
    return folder


def arguments(out: Path, *more: str) -> list[str]:
    return ["demo", "--distill", "--steps", "2", "--out", str(out), *more]


def report(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "report.json").read_text())
    return found


def test_the_teacher_sees_frames_as_the_bundled_model_does(out: Path) -> None:
    teacher, nano = zoo.load(out / "teacher"), zoo.load("nano")
    frame: Any = teacher.model
    own = frame.frame.state_dict()
    assert teacher.names == nano.names
    assert all(torch.equal(own[name], tensor) for name, tensor in nano.model.state_dict().items())


def test_the_students_differ_in_the_teacher_and_minor_paste_alone(out: Path) -> None:
    alone, taught = (
        config.load(str(out / name / "recipe.yaml")).model_dump() for name in ("alone", "taught")
    )
    assert alone["distill"] is None
    assert alone["data"]["minor_paste"] is None
    assert taught["data"].pop("minor_paste") == {"gamma": 1.0}
    assert list(taught.pop("distill")["signals"]) == ["pixels", "shared"]
    del alone["distill"], alone["data"]["minor_paste"]
    assert alone == taught
    lines = (out / "taught" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]
    assert {"kd_pixels", "kd_shared"} <= json.loads(lines[0])["loss"].keys()
    assert fingerprint(zoo.load(out / "alone").model) != fingerprint(zoo.load(out / "taught").model)


def test_called_again_it_trains_nothing_and_prints_the_numbers_of_the_report(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("trained again")

    before = report(out)
    monkeypatch.setattr(demo_distill, "run", never)
    assert main(arguments(out)) == 0
    assert report(out) == before
    assert before["models"]["teacher"]["ap"] > 0
    printed = capsys.readouterr().out
    rows = {words[0]: words for words in map(str.split, printed.splitlines()) if words}
    assert "pixels, shared, Minor-Paste" in " ".join(rows["taught"])
    for name, told in before["models"].items():
        assert rows[name][-3:] == [
            f"{100 * told['ap']:.1f}",
            f"{100 * told['hota']:.1f}",
            str(told["identity_switches"]),
        ]
    assert f"Gain of the taught student: {100 * before['gain']['ap']:+.1f} AP" in printed
    assert f"One seed and {SCENES} synthetic scenes" in printed


def test_another_demo_is_not_mixed_with_it(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for change in (["--steps", "3"], ["--seed", "7"]):
        assert main([*arguments(out), *change]) == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1
        assert "--overwrite" in message


def test_an_interruption_says_how_to_go_on(
    less: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(recipe: config.Recipe, folder: Path) -> None:
        folder.mkdir()
        raise Interrupted(signal.SIGTERM, 1)

    monkeypatch.setattr(demo_distill, "run", interrupted)
    assert main(arguments(tmp_path / "out")) == 128 + signal.SIGTERM
    assert "the same command goes on" in capsys.readouterr().err


@pytest.mark.parametrize("given", [["--distill", "--model", "nano"], ["--steps", "2"]])
def test_options_of_the_other_demo_are_refused(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", *given]) == 2
    assert "--distill" in capsys.readouterr().err
