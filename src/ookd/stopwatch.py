"""Where the time of a training step goes: seconds by part, whoever does the work.

    with timed("model"):
        ...  # whatever is timed in here under another name is taken off

The numbers add up in `seconds` until somebody reads and clears them.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch

seconds: defaultdict[str, float] = defaultdict(float)
_open: list[str] = []  # the parts that have begun, the innermost last
_since = 0.0  # when the time not yet written down began


@contextmanager
def timed(part: str) -> Iterator[None]:
    """Count the time within as `part`. Also a decorator: `@timed("matcher")`."""
    _write_down()
    _open.append(part)
    try:
        yield
    finally:
        _write_down()
        _open.pop()


def _write_down() -> None:
    """Give the time since the last call to the innermost open part."""
    global _since
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()  # what a GPU still works on belongs to the part that asked for it
    now = time.perf_counter()
    if _open:
        seconds[_open[-1]] += now - _since
    _since = now
