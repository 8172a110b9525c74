"""Tracking in one or two lines: `ookd.load` and `ookd.track`."""

from __future__ import annotations

from collections.abc import Collection, Generator
from pathlib import Path

from ookd.data.video import open_source
from ookd.data.video.opening import Source
from ookd.deploy.loading import Tracker, load
from ookd.structures import FrameResult
from ookd.tracking.pipeline import follow

__all__ = ["Tracker", "load", "track"]


def track(
    source: Source,
    model: str | Path | Tracker = "nano",
    *,
    classes: Collection[str] | None = None,
    score: float | None = None,
    every: int = 1,
    start: int | str | None = None,
    end: int | str | None = None,
    delay: int = 0,
    device: str = "auto",
    runtime: str = "auto",
) -> Generator[FrameResult, None, None]:
    """Follow objects through a video file, folder, glob, camera or stream, one result per frame.

    Any iterable of images works too: arrays (uint8 [H, W, 3] RGB), PIL images or paths.

    `start` and `end` are a frame number (120) or a time ("1:30"). `every=N` keeps every N-th frame. `classes`
    and `score` filter the objects that are shown. With a `delay`, each result comes that many frames later,
    and its ids are decided using those frames. Memory does not grow with the video.

    >>> for result in ookd.track("street.mp4"):
    ...     print(result.index, result.ids, [result.names[label] for label in result.labels])
    """
    tracker = model if isinstance(model, Tracker) else load(model, device, runtime)
    session = tracker.session(classes=classes, score=score, delay=delay)
    with open_source(source, start=start, end=end, every=every) as frames:
        yield from follow(session, frames)
