"""`ookd train` and `ookd distill` as a user calls them."""

from __future__ import annotations

import json
import shutil
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


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "a"
    assert main(arguments("train", "nano-ytvis-like", folder)) == 0
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_goes_on_with_its_own_recipe_alone(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a"
    shutil.copytree(finished, out)
    before = contents(out)
    assert main(["train", "nano-ytvis-like", "--out", str(out), "--resume", "--device", "cpu"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "data.train.0.videos (" in message
    assert "more; use the same settings" in message
    longer = arguments("train", "nano-ytvis-like", out, "run.steps=3")
    assert main([*longer, "--resume"]) == 2
    assert "another recipe: run.steps (2, now 3); use" in capsys.readouterr().err
    assert contents(out) == before

    assert main([*longer, "--resume-changed"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 3
    assert load(str(out / "recipe.yaml")).run.steps == 3
    assert main([*longer, "--resume"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["steps"] == 3
    assert "finished already: 3 steps" in captured.err


def test_distill_refuses_before_the_teacher_is_asked(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--teacher", str(finished), "--cache", str(tmp_path / "cache"), "--resume"]
    assert main(["distill", "--out", str(finished), *given]) == 2
    assert "was started with another recipe" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_overwriting_a_run_removes_what_it_wrote_alone(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a"
    shutil.copytree(finished, out)
    (out / "not-finite").mkdir()
    (out / "not-finite" / "step-00000001.safetensors").write_text("")
    (out / "metrics.jsonl.part").write_text("left by a killed run")
    mine = ["thesis.tex", "src/code.py", "model/notes.txt"]
    for name in mine:
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("mine")
    again = [*arguments("train", "nano-ytvis-like", out, "run.steps=1"), "--overwrite"]
    for place in (out, out / "src"):
        monkeypatch.chdir(place)
        assert main(again) == 2
        assert "the current folder" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(out))
    assert main(again) == 2
    assert "is your home folder" in capsys.readouterr().err
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    assert main(again) == 0
    assert [(out / name).read_text() for name in mine] == ["mine"] * 3
    assert not (out / "not-finite").exists()
    assert not (out / "metrics.jsonl.part").exists()
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-00000001"]


def test_a_recipe_that_no_run_wrote_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recipe.yaml").write_text("name: mine\n")
    assert main(["train", "nano-ytvis-like", "--out", str(tmp_path), "--overwrite"]) == 2
    assert "no run; name another folder" in capsys.readouterr().err
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
