"""Several processes share one folder: each takes work that no other has, and a killed one blocks nobody."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def claimed(folder: Path, wait: bool = False) -> Iterator[bool]:
    """Whether this process got the lock of `folder`. With `wait` it waits until it has.

    The system ends a lock with its process, and a forked process does not hold it. The file says who has it,
    for people. Locks of one folder must not be nested.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except (BlockingIOError, PermissionError):
            yield False
            return
        file.truncate(0)
        file.write(f"{socket.gethostname()} {os.getpid()}\n")
        file.flush()
        yield True
