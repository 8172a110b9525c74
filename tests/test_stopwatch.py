"""Seconds by part of the work."""

from __future__ import annotations

import threading

import pytest

from ookd.stopwatch import Stopwatch, timed


def test_a_part_within_another_is_taken_off_it(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([-2.0, 0.0, 1.0, 4.0, 4.5, 6.0, 10.0, 11.0])
    monkeypatch.setattr("ookd.stopwatch.time.perf_counter", lambda: next(times))
    with Stopwatch() as watch, timed("model"):  # -2 to 11, 0 to 10
        with timed("matcher"):  # 1 to 4
            pass
        with pytest.raises(ValueError, match="odd"), timed("matcher"):  # 4.5 to 6
            raise ValueError("odd")
    assert watch.seconds == {"model": 1.0 + 0.5 + 4.0, "matcher": 3.0 + 1.5}
    assert watch.total == 13.0


def test_only_a_running_stopwatch_of_the_same_thread_counts() -> None:
    @timed("work")
    def work() -> int:
        return 7

    assert work() == 7
    with Stopwatch() as watch:
        other = threading.Thread(target=work)
        other.start()
        other.join()
    assert work() == 7
    assert watch.seconds == {}
    with watch:
        assert work() == 7
    assert list(watch.seconds) == ["work"]
