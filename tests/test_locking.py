"""Output folders that one process has for itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from ookd.errors import UserError
from ookd.files import new_folder, write_file
from ookd.locking import locked

HOLD = """
import sys, time
from pathlib import Path
from ookd.locking import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def held_elsewhere(folder: Path, program: str = HOLD) -> Iterator[subprocess.Popen[str]]:
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        yield other
    finally:
        other.kill()
        other.wait()


def test_the_second_process_is_refused_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with held_elsewhere(folder) as other:
        with pytest.raises(UserError, match="another process writes there"), locked(folder):
            pass
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
        with locked(folder), locked(folder):  # what this process holds may be held again
            pass
    assert list(folder.iterdir()) == []


def test_a_folder_in_the_making_is_not_taken_away(tmp_path: Path) -> None:
    with (
        held_elsewhere(tmp_path / "out.part"),
        pytest.raises(UserError, match="another process writes there"),
        new_folder(tmp_path / "out", False, ()),
    ):
        pass


def test_leftovers_of_a_killed_process_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "out.part" / "old").mkdir(parents=True)
    with new_folder(tmp_path / "out", False, ()) as part:
        (part / "new").write_text("")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["new"]


WRITE = """
import sys, time
from pathlib import Path
from ookd.files import new_file
with new_file(Path(sys.argv[1])) as part:
    part.write_text("theirs")
    print("held", flush=True)
    time.sleep(60)
"""


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    with held_elsewhere(path, WRITE) as other:
        with pytest.raises(UserError, match="another process writes there"):
            write_file(path, "ours")
        assert (tmp_path / "file.txt.part").read_text() == "theirs"
        other.kill()
        other.wait()
        write_file(path, "ours")
    assert path.read_text() == "ours"
    assert [file.name for file in tmp_path.iterdir()] == ["file.txt"]


def test_many_writers_of_one_file_leave_one_of_their_contents(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"

    def write(text: str) -> str:
        try:
            for _ in range(50):
                write_file(path, text * 1000, sync=False)
        except UserError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(write, "abcd"))
    assert "" in told
    assert all(not line or "another process writes there" in line for line in told)
    assert path.read_text() in {letter * 1000 for letter in "abcd"}
    assert [file.name for file in tmp_path.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("name", ["file", "file/below", "n" * 300, "a\0b"])
def test_what_cannot_be_a_folder_is_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be the output folder"), locked(tmp_path / name):
        pass
