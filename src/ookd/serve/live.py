"""A live stream: images come one at a time, and each is answered before the next is read."""

from __future__ import annotations

import io
import threading
import time

import numpy as np
from PIL import Image as Pillow

from ookd.serve.batching import ModelStream
from ookd.serve.rules import FRAME_BYTES, Refusal, ServeRules
from ookd.serve.videos import TrackedVideo
from ookd.tracking.frame_model import Image


class LiveStream:
    """One camera. Its connection may break and come back; the newest connection holds it."""

    def __init__(self, video: TrackedVideo, stream: ModelStream, rules: ServeRules, holder: object) -> None:
        self.video, self._stream, self._rules = video, stream, rules
        self.holder: object | None = holder  # the connection that sends frames now
        self.left_at = time.monotonic()
        self._begin: float | None = None
        self._lock = threading.Lock()  # a new holder may come during a frame of the old one
        video.state = "running"

    def step(self, picture: bytes) -> bytes:
        """The answer to one JPEG, as JSON."""
        image = decoded(picture, self._rules.pixels)
        with self._lock:
            video = self.video
            if not video.height:
                video.height, video.width = image.shape[:2]
            elif image.shape[:2] != (video.height, video.width):
                raise Refusal(
                    400, f"all frames must have the size of the first, {video.width}x{video.height}"
                )
            now = time.monotonic()
            self._begin = now if self._begin is None else self._begin
            result = self._stream.step(image)
            result.index, result.seconds = video.spool.stop, now - self._begin
            video.fps = result.index / result.seconds if result.seconds else 0.0
            return video.add(result, picture)

    def leave(self, holder: object) -> None:
        """The connection is lost; the stream waits for a new one."""
        if self.holder is holder:
            self.holder, self.left_at = None, time.monotonic()

    @property
    def waits(self) -> float:
        """Seconds since the last connection was lost; 0 while there is one."""
        return 0.0 if self.holder is not None else time.monotonic() - self.left_at

    def end(self) -> None:
        """Free the place in the model. The frames stay."""
        self._stream.release()
        self.video.state = "done"


def decoded(picture: bytes, pixels: int) -> Image:
    """A JPEG as RGB [H, W, 3], its size checked before it is unpacked."""
    if len(picture) > FRAME_BYTES:
        raise Refusal(413, f"a frame may have at most {FRAME_BYTES} bytes")
    try:
        with Pillow.open(io.BytesIO(picture), formats=["JPEG"]) as opened:
            if opened.width * opened.height > pixels:
                raise Refusal(413, f"frames of {opened.width}x{opened.height} are too large")
            return np.array(opened.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Pillow.DecompressionBombError):
        raise Refusal(415, "the frame is not a complete JPEG") from None
