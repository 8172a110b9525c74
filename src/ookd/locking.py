"""Output folders that one process has for itself.

The system holds the lock, so a killed process leaves none behind. Windows has no locks on folders, and some
network drives have none at all; there nothing is checked.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ookd.errors import UserError

_held: set[tuple[int, Path]] = set()  # by process


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made if needed, while the block runs; raise if another process holds it.

    What this process holds already may be held again.
    """
    try:
        key = os.getpid(), folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = None if key in _held or sys.platform == "win32" else os.open(folder, os.O_RDONLY)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{folder}: cannot be the output folder: {reason}") from None
    if descriptor is None:
        yield
        return
    try:
        _lock(descriptor, folder)
        _held.add(key)
        yield
    finally:
        _held.discard(key)
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"{folder}: another process writes there; name another folder, or wait") from None
    except OSError:  # a drive without locks
        pass
