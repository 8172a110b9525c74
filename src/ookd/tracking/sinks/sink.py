"""The interface of sinks, and the objects of a frame as plain values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from ookd.data.video import FrameSource
from ookd.structures import FrameResult


@dataclass
class Sink(ABC):
    """Takes results in order and makes a file (or folder) of them.

    It starts the file in `__post_init__`. Closed after any frame, it leaves a complete file of the frames so
    far.
    """

    name: ClassVar[str]
    file: ClassVar[str]  # its name in the output folder
    draws: ClassVar[bool] = False  # on the frames: it needs their images

    folder: Path
    source: FrameSource

    @property
    def path(self) -> Path:
        return self.folder / self.file

    @abstractmethod
    def write(self, result: FrameResult) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Row:
    """One object in one frame, in plain Python."""

    id: int
    label: int
    name: str
    score: float
    box: list[float]  # x1 y1 x2 y2


def rows(result: FrameResult) -> Iterator[Row]:
    for id, label, score, box in zip(
        result.ids.tolist(),
        result.labels.tolist(),
        result.scores.tolist(),
        result.boxes_xyxy.tolist(),
        strict=True,
    ):
        yield Row(id, label, result.class_name(label), score, box)
