"""Commands on files that a stranger made: each ends soon and in a line, and leaves all else as it was."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from stress import command

Make = Callable[[Path], Sequence[object]]  # fills a folder; the command to run there


def tried(make: Make, folder: Path, says: str | None) -> command.Outcome:
    """Run it there. It must be refused with a line in which `says` is found, or, for None, succeed."""
    from ookd.cli import main

    command.warm_up()
    work, home = folder / "work", folder / "home"
    work.mkdir()
    home.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)  # for what makes files by relative names
        patch.setenv("HOME", str(home))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("COLUMNS", "120")
        words = [str(word) for word in make(work)]
        before = listing(work)
        done = command.run(words, work, main, own=[home])
    told = done.out + done.err
    assert done.faults() == [], told
    if says is None:
        assert done.code == 0, told
    else:
        assert done.code == 2, told
        assert re.search(says, told), told
        assert len([line for line in done.err.splitlines() if re.match("[Ee]rror: ", line)]) <= 1, told
        assert listing(work) == before
    return done


def listing(folder: Path) -> dict[str, object]:
    """All that lies there, with sizes and times of files, links not followed."""
    found: dict[str, object] = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            status = path.lstat()
            is_folder = path.is_dir() and not path.is_symlink()
            found[os.fsdecode(os.fsencode(path))] = (
                status.st_mode,
                None if is_folder else (status.st_size, status.st_mtime_ns),
            )
    return found
