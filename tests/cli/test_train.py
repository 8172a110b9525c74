"""`ookd train` and `ookd distill` as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.test_loop import TINY
from ookd.cli import main
from ookd.config import bundled, load
from ookd.models import zoo


def arguments(verb: str, recipe: str, out: Path, *changes: str) -> list[str]:
    given = [verb, recipe, "--out", str(out), "--device", "cpu", "--json"]
    for change in [*TINY, "run.steps=2", *changes]:
        given += ["--set", change]
    return given


def test_from_student_to_teacher_to_taught_student(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way with one step each: a student, a teacher that starts from it, a student it teaches."""
    small = "height: 64, width: 96, frames: 6"
    val = f"data.val={{kind: world, split: val, videos: 2, change: {{{small}}}}}"
    assert main(arguments("train", "nano-ytvis-like", tmp_path / "student", val)) == 0
    student = json.loads(capsys.readouterr().out)
    assert student["steps"] == 2
    assert 0 <= student["ap"] <= 1
    clips = ["data.frames={kind: clip, length: 3}", "model.base=nano-clip", f"model.start={student['model']}"]
    assert main(arguments("train", "nano-ytvis-like", tmp_path / "teacher", *clips, val)) == 0
    teacher = json.loads(capsys.readouterr().out)
    given = arguments("distill", "nano-distill", tmp_path / "taught", "data.frames.length=3")
    assert main([*given, "--teacher", teacher["model"]]) == 0
    taught = zoo.load(json.loads(capsys.readouterr().out)["model"])
    assert taught.names == zoo.load(student["model"]).names


def test_a_run_is_not_touched_unless_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "recipe.yaml").write_text("name: mine\n")
    assert main(["train", "nano-ytvis-like", "--out", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "--resume" in message
    assert (tmp_path / "recipe.yaml").read_text() == "name: mine\n"


def test_list_and_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in bundled())
    assert main(["train", "nano-ytvis-like", "--show", "--set", "optim.lr=0.5"]) == 0
    shown = capsys.readouterr().out
    assert "lr: 0.5  # learning rate" in shown
    assert len(shown.splitlines()) > 50
    assert load("nano-ytvis-like").optim.lr != 0.5


def test_a_missing_recipe_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train"]) == 2
    assert "ookd train --list" in capsys.readouterr().err
    assert main(["distill", "--out", str(tmp_path / "run")]) == 2
    assert "--teacher DIR" in capsys.readouterr().err
