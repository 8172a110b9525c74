"""The processor cores that this process may use."""

from __future__ import annotations

import os


def usable_cores() -> set[int]:
    """Their numbers; new threads inherit those of the calling thread."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {*range(os.cpu_count() or 1)}
