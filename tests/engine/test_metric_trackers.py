"""Trackers besides `metrics.jsonl`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from engine.tiny import lines, recipe
from ookd.engine.run import run
from ookd.errors import UserError


@pytest.mark.parametrize("tracker", ["wandb", "trackio", "mlflow"])
def test_one_that_is_not_installed_is_one_line(
    tracker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accelerate.tracking._available_trackers", [])
    with pytest.raises(UserError, match=f"run.trackers: {tracker} not installed; pip install {tracker}"):
        run(recipe(f"run.trackers=[{tracker}]"), tmp_path, cpu=True)


def test_one_that_cannot_start_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("api_key not configured\nuse login")

    monkeypatch.setattr("accelerate.tracking.TensorBoardTracker.start", refuse)
    with pytest.raises(UserError, match=r"tensorboard cannot start: api_key not configured$"):
        run(recipe("run.trackers=[tensorboard]"), tmp_path, cpu=True)


def test_losses_and_validation_reach_tensorboard(tmp_path: Path) -> None:
    run(recipe("run.steps=2", "run.trackers=[tensorboard]"), tmp_path, cpu=True)
    (events,) = tmp_path.glob("*/events.out.tfevents.*")
    found = EventAccumulator(str(events))
    found.Reload()
    first, second, validated = lines(tmp_path)

    def logged(name: str) -> list[tuple[int, float]]:
        return [(scalar.step, pytest.approx(scalar.value)) for scalar in found.Scalars(name)]

    assert logged("loss/total") == [(1, first["loss"]["total"]), (2, second["loss"]["total"])]
    assert logged("lr") == [(1, first["lr"]), (2, second["lr"])]
    assert logged("val/AP50") == [(2, validated["val"]["AP50"])]
    assert logged("time_matcher") == [(1, first["time_matcher"]), (2, second["time_matcher"])]
