"""Recordings: files, URLs of files, and standard input."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ookd.data.threads import interruptible
from ookd.data.video.decoding import (
    Opened,
    ToRgb,
    intact_frames,
    open_container,
    open_decoded,
    rate_of,
    reason,
)
from ookd.data.video.seeking import open_at
from ookd.data.video.source import Decode, FrameSource, Span
from ookd.errors import UserError

log = logging.getLogger(__name__)


class ContainerSource(FrameSource):
    """A recording: it has an end, and stores the times of its frames."""

    def __init__(self, address: Path | str, opened: Opened, name: str, span: Span, **how: Any) -> None:
        super().__init__(span)
        self.name = name
        self._address = address
        self._how = how
        with opened.container:
            self.height, self.width = opened.first.shape[:2]
            rate = rate_of(opened.stream)
            total = opened.stream.frames or round((_duration(opened.container, opened.stream) or 0.0) * rate)
        self.fps = rate / span.every
        self.length = span.count(total, rate) if total else None

    def read(self) -> Generator[tuple[int, float, Decode], None, None]:
        index, start = 0, None
        if isinstance(self._address, Path) and self.span.start is not None:
            container, stream, index, start = open_at(self._address, self.span.start)
        else:
            container, stream = open_container(self._address, **self._how)
        with container:
            frames = intact_frames(container, stream)
            yield from timed_frames(frames, container, stream, self.name, index, start)


class PipeSource(FrameSource):
    """Standard input: an encoded video, or a series of JPEG or PNG images. Can be read once."""

    def __init__(self, span: Span) -> None:
        super().__init__(span)
        self.name = "stdin"
        self._opened = interruptible(partial(open_decoded, "pipe:0", called="standard input"))
        self.height, self.width = self._opened.first.shape[:2]
        self.fps = rate_of(self._opened.stream) / span.every
        self.length = None
        self._used = False

    def read(self) -> Generator[tuple[int, float, Decode], None, None]:
        if self._used:
            raise UserError("standard input can be read only once")
        self._used = True
        opened = self._opened
        with opened.container:
            yield from timed_frames(opened.frames, opened.container, opened.stream, self.name)


def timed_frames(
    frames: Iterator[VideoFrame],
    container: InputContainer,
    stream: VideoStream,
    name: str,
    index: int = 0,
    start: float | None = None,
) -> Generator[tuple[int, float, Decode], None, None]:
    """Frames with number and time from `index` on; one warning if the recording ends too soon.

    `start` is the time stamp of frame 0 in seconds, if frame 0 is not the next one.
    """
    to_rgb = ToRgb()
    rate, tick = rate_of(stream), float(stream.time_base or 0)
    seconds = -1.0
    try:
        for frame in frames:
            stamp = index / rate if frame.pts is None else frame.pts * tick
            if start is None:
                start = stamp
            elif stamp - start <= seconds:  # in joined recordings, time stamps start again but time goes on
                start = stamp - seconds - 1 / rate
            seconds = stamp - start
            yield index, seconds, partial(to_rgb, frame)
            index += 1
    except av.FFmpegError as error:
        log.warning("%s: damaged at frame %d (%s); read up to there", name, index, reason(error))
        return
    duration = _duration(container, stream)
    missing = stream.frames - index if stream.frames else round(((duration or 0.0) - seconds) * rate) - 1
    if missing > 2:  # containers round, and editors omit a frame or two
        log.warning("%s: cut off at frame %d, about %d frames are missing", name, index, missing)


def _duration(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None and len(container.streams) == 1:  # sound may be longer
        return container.duration / av.time_base
    return None
