"""What the launcher of a training run says of this process, in variables of the environment."""

from __future__ import annotations

import os
import re

from ookd.errors import UserError

_NUMBERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_PORT")
_NEEDED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # by several processes


def is_main() -> bool:
    """Whether this is the process that writes files."""
    return _place()[0] == 0


def process_count() -> int:
    """How many processes train together."""
    return _place()[1]


def _place() -> tuple[int, int]:
    """The number of this process, and how many there are. Raises if both cannot be."""
    rank, count = _number("RANK", 0), _number("WORLD_SIZE", 1)
    for name in _NUMBERS:
        _number(name, 0)
    if rank >= count:
        raise UserError(f"RANK={rank} is for {rank + 1} or more processes, but WORLD_SIZE is {count}")
    lacking = [name for name in _NEEDED if not os.environ.get(name)]
    if lacking and (count > 1 or "LOCAL_RANK" in os.environ):
        raise UserError(
            f"for {count} processes, {' and '.join(lacking)} must be set, too; to train in one process, "
            "unset RANK, LOCAL_RANK and WORLD_SIZE"
        )
    return rank, count


def _number(name: str, usual: int) -> int:
    given = os.environ.get(name)
    if given is None:
        return usual
    if not re.fullmatch("[0-9]{1,6}", given):
        raise UserError(f"{name}={given:.40}: must be a number, as the launcher of several processes sets it")
    return int(given)
