"""Standard output that is full, closed or abandoned, and errors that nobody foresaw."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import small_set
from bounded import ookd
from ookd.cli import main

COMMANDS = {
    "data check": lambda path: ["data", "check", path],
    "data stats": lambda path: ["data", "stats", path, "--json"],
    "eval": lambda path: ["eval", "--gt", path, "--pred", path.with_name("results.json"), "--json"],
    "train --list": lambda path: ["train", "--list"],
    "help": lambda path: ["track", "--help"],
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "results.json").write_text("[]")
    return Path(small_set.write_set(tmp_path))


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_one_line(
    command, unbuffered: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with Path("/dev/full").open("w") as full:
        done = ookd(*command(data), stdout=full)
    assert done.returncode == 2
    assert done.stderr == "error: standard output: cannot be written: No space left on device\n"


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_reader_that_leaves_ends_it_quietly(command, data: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = ookd(*command(data), stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_closed_streams_do_no_harm(command, data: Path) -> None:
    words = [sys.executable, "-m", "ookd", *map(str, command(data))]
    script = '"$@" <&- >&-'
    done = subprocess.run(["sh", "-c", script, "sh", *words], stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("error", [ValueError("odd\nthing \x1b[31m"), RecursionError("deep"), MemoryError()])
def test_what_nobody_foresaw_is_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("ookd.cli.app", fail)
    monkeypatch.delenv("OOKD_DEBUG", raising=False)
    assert main([]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"error: {type(error).__name__}: ")
    assert told.endswith("(unexpected; OOKD_DEBUG=1 shows where)\n")
    assert told.count("\n") == 1
    assert "\x1b" not in told
    monkeypatch.setenv("OOKD_DEBUG", "1")
    with pytest.raises(type(error)):
        main([])
