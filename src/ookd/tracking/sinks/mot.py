"""Boxes in the MOTChallenge format."""

from __future__ import annotations

from dataclasses import dataclass

from ookd.files import PartialText
from ookd.structures import FrameResult
from ookd.tracking.sinks.sink import Sink, rows


@dataclass
class BoxesMot(Sink):
    """The MOTChallenge's result lines. They count frames, identities and pixels from 1."""

    name = "mot"
    file = "mot.txt"

    def __post_init__(self) -> None:
        self._text = PartialText(self.path)

    def write(self, result: FrameResult) -> None:
        for row in rows(result):
            x1, y1, x2, y2 = row.box
            self._text.write(
                f"{result.index + 1},{row.id + 1},{x1 + 1:.2f},{y1 + 1:.2f},{x2 - x1:.2f},{y2 - y1:.2f},"
                f"{row.score:.4f},-1,-1,-1\n"
            )

    def close(self) -> None:
        self._text.close()
