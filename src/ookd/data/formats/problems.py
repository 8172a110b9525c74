"""Problems in data.

Readers never raise on bad content: they hand each problem to a `Report` and go on without the bad record.
Loading passes `raise_problem`, which stops at the first; `ookd data check` passes a list's `append` and sees
all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ookd.errors import UserError, printable


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem: the file, the place in it (video, frame, annotation), and what would be right."""

    file: Path
    where: str  # "video 3, frame 7, annotation 12"; empty for the file as a whole
    what: str

    def __str__(self) -> str:
        line = f"{self.file}: {self.where}: {self.what}" if self.where else f"{self.file}: {self.what}"
        return printable(" ".join(line.split()))


Report = Callable[[Problem], None]


def raise_problem(problem: Problem) -> None:
    raise UserError(str(problem))
