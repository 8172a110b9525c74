"""The video with its confident objects drawn."""

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
    draws = True

    trails: bool = False  # draw the paths of objects
    score: float = 0.0  # lowest score of drawn objects

    def __post_init__(self) -> None:
        self._writer = VideoWriter(self.path, self.source.fps)
        self._overlay = Overlay(self.trails)
        self._start: float | None = None

    def write(self, result: FrameResult) -> None:
        seconds = result.seconds
        if seconds is not None:  # also starts at 0 if tracking starts in the middle
            self._start = seconds if self._start is None else self._start
            seconds -= self._start
        self._writer.write(self._overlay.draw(result[result.scores >= self.score]), seconds)

    def close(self) -> None:
        self._writer.close()
