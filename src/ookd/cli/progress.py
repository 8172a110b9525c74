"""Progress on standard error: a bar on a terminal, otherwise a plain line every few seconds."""

from __future__ import annotations

import logging
import sys
import time
from collections import deque

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ookd.errors import printable

LINE_SECONDS = 10.0  # between two plain lines
RECENT = 50  # steps over which the speed is measured


class FrameProgress:
    """Counts frames. Warnings of the package appear above the bar and are kept in `warnings`."""

    def __init__(self, total: int | None, show: bool = True) -> None:
        self.done = 0
        self.warnings: list[str] = []
        self._total = total
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._begin = self._last_line = time.monotonic()
        self._first_step = self._last_step = 0.0
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._lines = show and not self._console.is_terminal
        self._bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("frames  {task.description}"),
            TimeElapsedColumn(),
            console=self._console,
            disable=not show or self._lines,
            transient=True,
        )
        self._task = self._bar.add_task("", total=total)
        self._handler = _WarningHandler(self)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begin

    def step(self) -> None:
        self.done += 1
        now = time.monotonic()
        self._recent.append(now)
        self._first_step = self._first_step or now
        self._last_step = now
        self._bar.update(self._task, completed=self.done, description=self._recently())
        if self._lines and now - self._last_line >= LINE_SECONDS:
            self._last_line = now
            of = f" of {self._total}" if self._total else ""
            print(f"frame {self.done}{of}, {self._recently()}", file=sys.stderr, flush=True)

    @property
    def speed(self) -> float:
        """Frames per second since the first frame, without the time to load the model."""
        return max(self.done - 1, 0) / max(self._last_step - self._first_step, 1e-9)

    def _recently(self) -> str:
        """Recent frames per second, and the time left at that speed."""
        if len(self._recent) < 2:
            return ""
        fps = (len(self._recent) - 1) / max(self._recent[-1] - self._recent[0], 1e-9)
        if not self._total:
            return f"{fps:.1f} frames/s"
        left = round(max(0, self._total - self.done) / fps)
        return f"{fps:.1f} frames/s, {left // 60}:{left % 60:02d} left"

    def warn(self, message: str) -> None:
        self.warnings.append(message)
        self._console.print(printable(f"warning: {message}"), markup=False)

    def __enter__(self) -> FrameProgress:
        logging.getLogger("ookd").addHandler(self._handler)
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        logging.getLogger("ookd").removeHandler(self._handler)


class _WarningHandler(logging.Handler):
    def __init__(self, progress: FrameProgress) -> None:
        super().__init__(logging.WARNING)
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        self._progress.warn(record.getMessage())
