"""The processor cores that this process may use, and how many threads compute on them."""

from __future__ import annotations

import os
import re

from ookd.errors import UserError

_THREADS = "OOKD_THREADS"
MOST_THREADS = 1024


def usable_cores() -> set[int]:
    """Their numbers; new threads inherit those of the calling thread."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {*range(os.cpu_count() or 1)}


def thread_count() -> int:
    """For computing: one a core, or what `use_threads` said in this process or the one that started it."""
    asked = os.environ.get(_THREADS, "")
    if not asked:
        return len(usable_cores())
    if not re.fullmatch("[0-9]{1,6}", asked) or not 1 <= int(asked) <= MOST_THREADS:
        raise UserError(f"{_THREADS}={asked:.40}: must be a number of threads from 1 to {MOST_THREADS}")
    return int(asked)


def use_threads(count: int) -> None:
    """Compute with so many threads. PyTorch reads it when it is first imported."""
    os.environ[_THREADS] = os.environ["OMP_NUM_THREADS"] = str(count)
