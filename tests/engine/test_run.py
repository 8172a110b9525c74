"""A whole run: validation that leaves training alone, the best and the last model, interruptions."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import small_set
from engine.ranks import start_two
from engine.tiny import CHANGES, losses, recipe, validations
from ookd.engine import run as runs
from ookd.engine.loop import Interrupted, Trainer
from ookd.engine.validate import Validation
from ookd.errors import UserError
from ookd.models import zoo

FINAL = "checkpoints/step-00000006/model.safetensors"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run with validation at steps 2, 4 and 6."""
    folder = tmp_path_factory.mktemp("whole")
    runs.run(recipe(), folder, cpu=True)
    return folder


def same(a: Path, b: Path) -> bool:
    first, second = load_file(a), load_file(b)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_validation_does_not_disturb_training(whole: Path, tmp_path: Path) -> None:
    outcome = runs.run(recipe("data.val=null"), tmp_path, cpu=True)
    assert outcome.ap is None
    last = zoo.load(tmp_path).model.state_dict()  # nothing was validated: the run stands for its last model
    assert all(torch.equal(value, last[name]) for name, value in load_file(tmp_path / FINAL).items())
    assert losses(tmp_path) == losses(whole)
    assert same(tmp_path / FINAL, whole / FINAL)
    assert [step for step, _ in validations(whole)] == [2, 4, 6]
    assert not (tmp_path / "best").exists()
    assert "Validation" not in (tmp_path / "run.html").read_text()


def test_without_a_distance_only_the_end_is_validated(tmp_path: Path) -> None:
    outcome = runs.run(recipe("run.validate_every=null", "run.steps=2"), tmp_path, cpu=True)
    ((step, scores),) = validations(tmp_path)
    assert step == 2
    assert outcome.ap == scores["AP"]


def test_a_run_that_is_done_is_left_as_it_is(whole: Path) -> None:
    before = (whole / "metrics.jsonl").read_text()
    outcome = runs.run(recipe(), whole, cpu=True)
    assert (whole / "metrics.jsonl").read_text() == before
    assert outcome.steps == 6
    assert outcome.ap == validations(whole)[-1][1]["AP"]


def test_interrupted_while_validating_the_validation_is_made_up_for(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = Validation.measure

    def disturbed(self: Validation, *given: Any, **more: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return measure(self, *given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Validation, "measure", disturbed)
        with pytest.raises(Interrupted, match="after step 2"):
            runs.run(recipe(), tmp_path, cpu=True)
    assert validations(tmp_path) == []
    assert (tmp_path / "run.html").exists()
    runs.run(recipe(), tmp_path, cpu=True)
    assert losses(tmp_path) == losses(whole)
    assert validations(tmp_path) == validations(whole)
    assert same(tmp_path / FINAL, whole / FINAL)


def test_a_validation_stops_where_another_process_was_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def agree(self: Trainer) -> bool:
        if self.step == 2:
            self.stop.signal = signal.SIGTERM
        return self.step == 2

    monkeypatch.setattr(Trainer, "asked_to_stop", agree)
    with pytest.raises(Interrupted, match="after step 2"):
        runs.run(recipe(), tmp_path, cpu=True)
    assert validations(tmp_path) == []


@pytest.fixture
def graded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Validation that answers with the grades put into the list."""
    grades: list[float] = []
    tracking = SimpleNamespace(hota=0.5, idf1=0.5, switches=3)

    def measure(*_: Any, **__: Any) -> Any:
        ap = grades.pop(0)
        scores = {"AP": ap, "AP50": ap, "AP75": ap}
        report = SimpleNamespace(ap=ap, summary=scores, tracking=tracking, strata={}, videos=2)
        report.as_dict = lambda: {"strata": {}, "errors": {}, "per_class": {}}
        return SimpleNamespace(report=report, results=[])

    monkeypatch.setattr(Validation, "measure", measure)
    yield grades
    assert not grades


def test_a_model_of_drawn_worlds_alone_is_known_as_one(whole: Path, tmp_path: Path) -> None:
    assert {zoo.load(whole / kind).trained_on for kind in ("model", "best")} == {zoo.DRAWN}
    small_set.write_set(tmp_path / "own")
    own = f"data.train=[{{kind: folder, path: {tmp_path / 'own'}}}]"
    given = recipe(own, "data.val=null", "data.augment.sides=[64]", "run.steps=1")
    assert zoo.load(runs.run(given, tmp_path / "run", cpu=True).model).trained_on == ""


def test_best_and_last(tmp_path: Path, graded: list[float]) -> None:
    graded += [0.2, 0.5, 0.4]
    outcome = runs.run(recipe("run.ema=0.9"), tmp_path, cpu=True)
    at = {step: load_file(tmp_path / f"checkpoints/step-{step:08d}/average.safetensors") for step in (4, 6)}
    for folder, step in (("best", 4), ("model", 6)):
        saved = zoo.load(tmp_path / folder).model.state_dict()
        assert all(torch.equal(value, at[step][name]) for name, value in saved.items())
    assert outcome.model == str(tmp_path / "model")
    best = zoo.load(tmp_path).model.state_dict()  # the run stands for its best model
    assert all(torch.equal(value, at[4][name]) for name, value in best.items())


def test_the_best_survives_an_interruption(tmp_path: Path, graded: list[float]) -> None:
    graded += [0.5]
    runs.run(recipe("run.steps=2"), tmp_path, cpu=True)
    best = (tmp_path / "best/model.safetensors").read_bytes()
    graded += [0.4, 0.3]
    runs.run(recipe(), tmp_path, cpu=True)
    assert (tmp_path / "best/model.safetensors").read_bytes() == best


def test_wrong_validation_data_are_noticed_before_training(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no-such-place"):
        runs.run(recipe("data.val={kind: folder, path: no-such-place}"), tmp_path, cpu=True)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_two_processes_validate_together(tmp_path: Path) -> None:
    """Neither waits for ever, and what they find is put down once."""
    arguments = [sys.executable, "-m", "ookd", "train", "nano-ytvis-like", "--device", "cpu", "--out"]
    arguments.append(str(tmp_path))
    for change in [*CHANGES, "run.steps=2"]:
        arguments += ["--set", change]
    ranks = start_two(arguments)
    told = [process.communicate(timeout=300)[1] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], told
    assert [step for step, _ in validations(tmp_path)] == [2]
    assert "on 2 validation videos" in told[0]
    assert (tmp_path / "best/model.safetensors").exists()
