"""Training runs: the loop, checkpoints, logs."""

from __future__ import annotations

import os


def is_main() -> bool:
    """Whether this is the process that writes; a launcher says so in the environment."""
    return os.environ.get("RANK", "0") == "0"
