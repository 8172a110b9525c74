"""Cameras and endless streams: only the newest frame matters, and connections can break."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator
from functools import partial
from typing import Any

import av
import cv2
import numpy as np

from ookd.data.video.decoding import Opened, ToRgb, open_decoded, rate_of
from ookd.data.video.source import Decode, FrameSource, Image, Span
from ookd.errors import UserError

log = logging.getLogger(__name__)
_opencv_log = getattr(cv2.utils, "logging", cv2)  # in cv2 itself before OpenCV 4.13

RECONNECTS = 5  # failed attempts in a row before a stream counts as over
MOST = 9999  # a camera's number
FIRST_WAIT = 0.5  # seconds before the first attempt; doubles with each


class CameraSource(FrameSource):
    """A camera by its index."""

    live = True

    def __init__(self, number: int, span: Span) -> None:
        super().__init__(span)
        if not 0 <= number <= MOST:
            raise UserError(f"camera {number}: cameras have numbers from 0 to {MOST}")
        self.name = f"camera{number}"
        level = _opencv_log.getLogLevel()
        _opencv_log.setLogLevel(0)  # silent: our own message follows
        self._camera = cv2.VideoCapture(number)
        ok, image = self._camera.read()
        _opencv_log.setLogLevel(level)
        if not ok:
            self._camera.release()
            raise UserError(f"camera {number}: cannot be opened (is it plugged in and not in use?)")
        self.height, self.width = image.shape[:2]
        self.fps = (self._camera.get(cv2.CAP_PROP_FPS) or 30.0) / span.every
        self.length = None

    def read(self) -> Generator[tuple[int, float, Decode], None, None]:
        start = time.monotonic()
        index = 0
        while True:
            ok, image = self._camera.read()
            if not ok:
                log.warning("%s: no more images after frame %d", self.name, index - 1)
                return
            yield index, time.monotonic() - start, partial(_from_opencv, image.astype(np.uint8, copy=False))
            index += 1

    def close(self) -> None:
        self._camera.release()


def _from_opencv(image: Image) -> Image:
    return np.ascontiguousarray(image[..., ::-1])


class StreamSource(FrameSource):
    """A stream at a URL whose length is unknown; reconnects when it breaks. Times are those of arrival.

    Over HTTP it may be a recording: it has ended when the server closes it, or when it starts over after a
    reconnect.
    """

    live = True

    def __init__(self, url: str, opened: Opened, name: str, span: Span, **how: Any) -> None:
        super().__init__(span)
        self.name = name
        self._url = url
        self._how = how
        self._opened: Opened | None = opened
        self._recorded = url.startswith("http") and opened.container.format.name != "mpjpeg"
        self.height, self.width = opened.first.shape[:2]
        self.fps = rate_of(opened.stream) / span.every
        self.length = None

    def read(self) -> Generator[tuple[int, float, Decode], None, None]:
        to_rgb = ToRgb()
        begin = time.monotonic()
        index = failures = 0
        warned = False
        first: Image | None = None
        while failures <= RECONNECTS:
            try:
                opened, self._opened = self._opened or open_decoded(self._url, **self._how), None
                with opened.container:
                    if self._recorded and first is not None and np.array_equal(first, opened.first):
                        return
                    first = opened.first if first is None else first
                    for frame in opened.frames:
                        failures = 0
                        yield index, time.monotonic() - begin, partial(to_rgb, frame)
                        index += 1
                if self._recorded:
                    return
            except (UserError, av.FFmpegError):
                pass
            failures += 1
            if not warned:
                warned = True
                log.warning("%s: the stream broke off after %d frames; reconnecting", self.name, index)
            time.sleep(FIRST_WAIT * 2 ** (failures - 1))
        log.warning("%s: gave up after %d frames", self.name, index)
