"""Lines of metrics: speed, shares of time, and what a kill leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.tiny import lines, recipe
from ookd.engine.run_log import RunLog


def test_speed_and_shares_are_those_of_the_steps_so_far(tmp_path: Path) -> None:
    record = RunLog(recipe("run.log_every=2"), tmp_path, quiet=True)
    parts = {"loader": 0.5, "matcher": 0.25, "model": 1.0, "all": 2.0}
    assert record.step(1, {"total": 1.0}, 0.5, 3.0, 8, parts)
    assert record.step(3, {"total": 1.0}, 0.5, 3.0, 8, parts) == {}
    shown = record.step(4, {"total": 2.0}, 0.5, 3.0, 16, {"model": 1.0, "teacher": 3.0, "all": 4.0})
    first, second = lines(tmp_path)
    assert first["frames_per_s"] == 4.0
    assert second["frames_per_s"] == 32 / 8
    assert second["lr"] == 0.5 * 1e-3
    shares = {name: second[f"time_{name}"] for name in ("loader", "matcher", "model", "teacher", "rest")}
    expected = {"loader": 1 / 8, "matcher": 0.5 / 8, "model": 3 / 8, "teacher": 3 / 8, "rest": 0.5 / 8}
    assert shares == pytest.approx(expected, abs=1e-4)
    assert shown["loss/total"] == 2.0
    assert shown["grad_norm"] == 3.0


def test_going_back_drops_later_lines_and_half_lines(tmp_path: Path) -> None:
    record = RunLog(recipe(), tmp_path, quiet=True)
    for step in (1, 2, 3):
        record.write({"step": step, "loss": {"total": 0.1 + step}})
    record.write({"step": 2, "val": {"AP": 0.25}})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    record.rewind(2)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 2]
    assert lines(tmp_path)[0]["loss"] == {"total": 1.1}
    assert record.last_ap() == 0.25
