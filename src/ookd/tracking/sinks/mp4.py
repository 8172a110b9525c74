"""The video with its objects drawn in."""

from __future__ import annotations

from dataclasses import dataclass

from ookd.data.video import VideoWriter
from ookd.drawing.overlay import Overlay
from ookd.structures import FrameResult
from ookd.tracking.sinks.sink import Sink


@dataclass
class AnnotatedVideo(Sink):
    name = "mp4"
    file = "annotated.mp4"

    trails: bool = False  # draw where objects came from

    def __post_init__(self) -> None:
        self._writer = VideoWriter(self.path, self.source.fps)
        self._overlay = Overlay(self.trails)
        self._start: float | None = None

    def write(self, result: FrameResult) -> None:
        seconds = result.seconds
        if seconds is not None:  # a video that is tracked from its middle on also starts at 0
            self._start = seconds if self._start is None else self._start
            seconds -= self._start
        self._writer.write(self._overlay.draw(result), seconds)

    def close(self) -> None:
        self._writer.close()
