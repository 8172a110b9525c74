"""What long work tells: on a terminal, elsewhere, and what the package warns of."""

from __future__ import annotations

import io
import logging

import pytest

from ookd.cli import progress
from ookd.cli.progress import FrameProgress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set by a test."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def run(clock: list[float], total: int | None, frames: int, each: float, **options: bool) -> FrameProgress:
    with FrameProgress(total, **options) as shown:
        clock[0] += 60  # a model is loaded
        for _ in range(frames):
            shown.step()
            clock[0] += each
    return shown


def test_plain_lines_every_ten_seconds(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    shown = run(clock, 200, 101, 0.25)
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    # the first at once, since loading took long; then each 40 frames
    assert lines[1:] == [
        "frame 41 of 200, 4.0 frames/s, 0:40 left",
        "frame 81 of 200, 4.0 frames/s, 0:30 left",
    ]
    assert shown.speed == pytest.approx(4.0)
    assert shown.done == 101


def test_without_a_known_end(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    run(clock, None, 50, 0.25)
    assert capsys.readouterr().err.splitlines()[1:] == ["frame 41, 4.0 frames/s"]


def test_hidden(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    run(clock, 200, 100, 1.0, show=False)
    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(progress.sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with FrameProgress(3) as shown:
        for _ in range(3):
            shown.step()
        logging.getLogger("ookd.data").warning("frame %d is odd", 2)
    text = terminal.getvalue()
    assert "3/3" in text
    assert "frames/s" in text
    assert "warning: frame 2 is odd" in text
    assert text.count("frame 1 of 3") == 0


def test_warnings_are_shown_and_kept(capsys: pytest.CaptureFixture[str]) -> None:
    with FrameProgress(3) as shown:
        logging.getLogger("ookd.data").warning("cut [off] at %d", 7)
        logging.getLogger("elsewhere").warning("not ours")
    logging.getLogger("ookd.data").debug("nothing")
    assert shown.warnings == ["cut [off] at 7"]
    assert "warning: cut [off] at 7\n" in capsys.readouterr().err
