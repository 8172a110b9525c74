"""Boxes as a table."""

from __future__ import annotations

import csv
from dataclasses import dataclass

from ookd.files import PartialText
from ookd.structures import FrameResult
from ookd.tracking.sinks.sink import Sink, rows


@dataclass
class BoxesCsv(Sink):
    """One line per object and frame, with a header."""

    name = "csv"
    file = "boxes.csv"

    def __post_init__(self) -> None:
        self._text = PartialText(self.path)
        self._table = csv.writer(self._text)
        self._table.writerow(["frame", "seconds", "id", "class", "score", "x1", "y1", "x2", "y2"])

    def write(self, result: FrameResult) -> None:
        seconds = "" if result.seconds is None else f"{result.seconds:.4f}"
        for row in rows(result):
            box = [f"{value:.2f}" for value in row.box]
            self._table.writerow([result.index, seconds, row.id, row.name, f"{row.score:.4f}", *box])

    def close(self) -> None:
        self._text.close()
