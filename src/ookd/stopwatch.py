"""Where time goes: seconds by part of the work.

    with Stopwatch() as watch:
        ...                         # anywhere below, in any module:
        with timed("matcher"):
            ...
    watch.seconds["matcher"], watch.total

Without a running stopwatch in its thread, `timed` does nothing.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Self


class Stopwatch:
    """Adds up the seconds spent in each part. A part inside another one is not counted for the outer one.

    A GPU works behind the program's back: its time counts for whichever part waits for the result. With
    `synchronise` every part waits for its own work. The parts are then exact, but the whole is slower.
    """

    def __init__(self, synchronise: bool = False) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.total = 0.0  # from start to stop, whether in a part or not
        self._synchronise = synchronise
        self._open: list[str] = []  # parts under way, the innermost last
        self._since = 0.0  # up to here, time is counted
        self._outer: Token[Stopwatch | None] | None = None

    def __enter__(self) -> Self:
        self._outer = _running.set(self)
        self._since = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._outer is not None
        _running.reset(self._outer)
        self._count()

    def begin(self, part: str) -> None:
        self._count()
        self._open.append(part)

    def end(self) -> None:
        self._count()
        self._open.pop()

    def _count(self) -> None:
        """Give the time since the last call to the innermost part."""
        now = self._now()
        self.total += now - self._since
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now

    def _now(self) -> float:
        if self._synchronise:
            _finish_gpu_work()
        return time.perf_counter()


def _finish_gpu_work() -> None:
    import torch  # only here: tracking with an exported model does without it

    if torch.cuda.is_available():
        torch.cuda.synchronize()


_running: ContextVar[Stopwatch | None] = ContextVar("running stopwatch", default=None)


@contextmanager
def timed(part: str) -> Iterator[None]:
    """Count the time within as `part` of the running stopwatch. Also a decorator: `@timed("matcher")`."""
    watch = _running.get()
    if watch is None:
        yield
        return
    watch.begin(part)
    try:
        yield
    finally:
        watch.end()
