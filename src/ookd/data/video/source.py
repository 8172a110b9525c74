"""The interface of every source of frames, and the selection of a part of it."""

from __future__ import annotations

import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from math import ceil
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from ookd.data.threads import prefetch
from ookd.errors import UserError

log = logging.getLogger(__name__)

Image = NDArray[np.uint8]  # [H, W, 3] RGB
Decode = Callable[[], Image | None]  # decodes the image on demand; None if it is unreadable
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Frame:
    """One image, its number in the recording (from 0) and its time."""

    index: int
    seconds: float
    image: Image


@dataclass(frozen=True, slots=True)
class Moment:
    """A place in a recording: a frame number or a time."""

    frame: int | None = None
    seconds: float | None = None

    @classmethod
    def parse(cls, value: int | str) -> Moment:
        """`120` is a frame; `1:30`, `1:02:30.5` and `12.5s` are times."""
        text = str(value).strip()
        if re.fullmatch(r"[0-9]{1,12}", text):
            return cls(frame=int(text))
        if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,12})?s", text):
            return cls(seconds=float(text[:-1]))
        if re.fullmatch(r"([0-9]{1,6}:)?[0-9]{1,6}:[0-9]{1,6}(\.[0-9]{1,12})?", text):
            return cls(seconds=sum(float(part) * 60**i for i, part in enumerate(reversed(text.split(":")))))
        raise UserError(
            f"{text!r:.60} is not a place in a video; write a frame (120) or a time (1:30, 12.5s)"
        )

    def reached(self, index: int, seconds: float) -> bool:
        if self.frame is not None:
            return index >= self.frame
        return self.seconds is not None and seconds >= self.seconds - 1e-6

    def in_frames(self, fps: float) -> int:
        """The first frame at or after it, at a constant rate."""
        return self.frame if self.frame is not None else ceil((self.seconds or 0.0) * fps - 1e-3)


@dataclass(frozen=True, slots=True)
class Span:
    """Every `every`-th frame from `start` up to, not including, `end`."""

    start: Moment | None = None
    end: Moment | None = None
    every: int = 1

    @classmethod
    def parse(cls, start: int | str | None, end: int | str | None, every: int) -> Span:
        if every < 1:
            raise UserError(f"every {every} frames is not possible; it must be 1 or more")
        return cls(
            None if start is None else Moment.parse(start), None if end is None else Moment.parse(end), every
        )

    def select(self, items: Iterable[tuple[int, float, T]]) -> Iterator[tuple[int, float, T]]:
        """The items (index, seconds, anything) within the span."""
        first: int | None = None
        for index, seconds, item in items:
            if self.end is not None and self.end.reached(index, seconds):
                return
            if self.start is not None and not self.start.reached(index, seconds):
                continue
            first = index if first is None else first
            if (index - first) % self.every == 0:
                yield index, seconds, item

    def count(self, total: int, fps: float) -> int:
        """How many of `total` frames lie in the span, at a constant rate."""
        start = 0 if self.start is None else self.start.in_frames(fps)
        end = total if self.end is None else min(self.end.in_frames(fps), total)
        return max(0, -(-(end - start) // self.every))


class FrameSource(ABC):
    """A stream of RGB frames that all have the size of the first one.

    Iterating gives images [H, W, 3]; `frames()` gives them with number and time. Frames are read ahead in a
    thread. `fps` and `length` count only the selected frames; `length` is None if it is unknown. Use as a
    context manager.
    """

    name: str  # short, for file names and messages
    fps: float
    width: int
    height: int
    length: int | None
    live: bool = False  # old frames are dropped rather than queued

    def __init__(self, span: Span) -> None:
        self.span = span
        self._warned_of_size = False

    @abstractmethod
    def read(self) -> Generator[tuple[int, float, Decode], None, None]:
        """All frames, at least from the start of the span on, as (index, seconds, decode)."""

    def _images(self) -> Iterator[Frame]:
        with closing(self.read()) as items:
            for index, seconds, decode in self.span.select(items):
                image = decode()
                if image is not None:
                    yield Frame(index, seconds, self._fit(image, index))

    def frames(self) -> Generator[Frame, None, None]:
        return prefetch(self._images(), depth=1 if self.live else 4, newest=self.live)

    def __iter__(self) -> Iterator[Image]:
        with closing(self.frames()) as frames:
            for frame in frames:
                yield frame.image

    def close(self) -> None:  # noqa: B027
        """Release devices; a closed source cannot be read again."""

    def __enter__(self) -> FrameSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _fit(self, image: Image, index: int) -> Image:
        """Scale a frame of another size into that of the first one and pad it with black.

        Boxes, masks and written videos need one size; streams change theirs with the bandwidth.
        """
        height, width = image.shape[:2]
        if (height, width) == (self.height, self.width):
            return image
        if not self._warned_of_size:
            self._warned_of_size = True
            log.warning(
                "%s: %dx%d instead of %dx%d from frame %d on; scaled to the first size",
                *(self.name, width, height, self.width, self.height, index),
            )
        scale = min(self.height / height, self.width / width)
        height, width = max(1, round(height * scale)), max(1, round(width * scale))
        top, left = (self.height - height) // 2, (self.width - width) // 2
        canvas = np.zeros((self.height, self.width, 3), np.uint8)
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        canvas[top : top + height, left : left + width] = cv2.resize(
            image, (width, height), interpolation=how
        )
        return canvas
