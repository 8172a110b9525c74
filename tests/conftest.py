"""Where reference data lies, and why a test skips without it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

_SHARED = Path(__file__).parents[2] / "shared"
GOLDEN = Path(os.environ.get("OOKD_GOLDEN", _SHARED / "golden"))
DATA = Path(os.environ.get("OOKD_DATA", _SHARED / "data"))


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job, which would pass it on
    signal.signal(signal.SIGINT, signal.default_int_handler)


def golden_cases(pattern: str) -> list[Path]:
    """Reference cases by glob, so that dropping in a file adds a test."""
    return sorted(GOLDEN.glob(pattern))


@pytest.fixture(scope="session")
def golden() -> Path:
    if not GOLDEN.is_dir():
        pytest.skip(f"no reference numbers at {GOLDEN} (set OOKD_GOLDEN)")
    return GOLDEN


@pytest.fixture(scope="session")
def real_data() -> Path:
    if not DATA.is_dir():
        pytest.skip(f"no real videos at {DATA} (set OOKD_DATA)")
    return DATA
