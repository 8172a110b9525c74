"""Seconds by part of a step."""

from __future__ import annotations

import pytest

from ookd import stopwatch


def test_a_part_within_another_is_taken_off_it(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 4.0, 4.5, 6.0, 10.0])
    monkeypatch.setattr("ookd.stopwatch.time.perf_counter", lambda: next(times))
    stopwatch.seconds.clear()
    with stopwatch.timed("model"):  # 0
        with stopwatch.timed("matcher"):  # 1 to 4
            pass
        with pytest.raises(ValueError, match="odd"), stopwatch.timed("matcher"):  # 4.5 to 6
            raise ValueError("odd")
    assert stopwatch.seconds == {"model": 1.0 + 0.5 + 4.0, "matcher": 3.0 + 1.5}  # 10
