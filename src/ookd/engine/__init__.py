"""Training runs: the loop, checkpoints, logs, validation."""

from __future__ import annotations

import os


def is_main() -> bool:
    """Whether this is the process that writes files. The launcher sets RANK."""
    return os.environ.get("RANK", "0") == "0"
