"""Exclusive locks on output folders and unfinished files.

The operating system holds the lock, so a killed process leaves none behind. Windows has no locks on folders,
and some network drives have none at all; nothing is checked there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ookd.errors import UserError

_held: set[tuple[int, Path]] = set()  # by process


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made if needed, while the block runs; raise if another process holds it.

    What this process holds already may be held again. Folders that were made go again if the block fails
    before it has written anything.
    """
    try:
        key = os.getpid(), folder.resolve()
        made = [place for place in (folder, *folder.parents) if not place.exists()]
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
        try:
            yield
        except BaseException:
            with suppress(OSError):
                for place in made:
                    place.rmdir()
            raise
    finally:
        _held.discard(key)
        os.close(descriptor)


@contextmanager
def locked_file(path: Path) -> Iterator[None]:
    """Hold a file, which is made if needed, while the block writes it and gives it another name.

    Raise if it is held already, also by another thread of this process.
    """
    if sys.platform == "win32":
        yield
        return
    descriptor = _open_locked(path)
    try:
        yield
    finally:
        os.close(descriptor)


def _open_locked(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor, path)
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # another process finished it, and gave it its name, just now


def _lock(descriptor: int, path: Path) -> None:
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"{path}: another process writes there; choose another name, or wait") from None
    except OSError:  # a drive without locks
        pass
