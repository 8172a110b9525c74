"""The processor cores that this process may use."""

from __future__ import annotations

import os


def usable_cores() -> set[int]:
    """Their numbers, as the calling thread is bound; new threads inherit that."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {*range(os.cpu_count() or 1)}
