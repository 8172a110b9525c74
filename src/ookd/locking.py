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


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold an existing folder while the block runs; raise if another process does."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{folder}: another process is writing there; wait, or name another folder"
            ) from None
        except OSError:  # a drive without locks
            pass
        yield
    finally:
        os.close(descriptor)
