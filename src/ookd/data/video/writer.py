"""Write H.264 into a file that is never broken."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream

from ookd.data.video.source import Image
from ookd.files import check_no_device, finish, part_of, write_error

TICKS = Fraction(1, 90_000)  # seconds; fine enough for constant and variable frame rates
LONGEST = 3600 * 90_000  # ticks that a frame may stay; MP4 has 32 bits for a few such times together
KEY_SECONDS = 2.0  # between key frames; a killed run loses at most this much


class VideoWriter:
    """Writes RGB images as an MP4 that every player shows: H.264, 4:2:0, BT.709, sides padded to even.

    Frames go to `NAME.part`, which becomes `NAME` when the context is left, also by an exception: the frames
    written so far are then a whole video. A killed process leaves the part. It is written in fragments, so it
    plays nearly to its end.
    """

    def __init__(self, path: Path | str, fps: float) -> None:
        self.path = Path(path)
        check_no_device(self.path)
        self._fps = fps
        self._size: tuple[int, int] | None = None
        self._part: Path | None = None
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._to_yuv = VideoReformatter()
        self._stamp = -1  # of the frame written last, in ticks
        self._frames = 0

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, image: Image, seconds: float | None = None) -> None:
        """Add a frame [H, W, 3]; `seconds` is its time, for variable frame rates."""
        if self._size is None:
            self._size = image.shape[:2]
        if image.shape[:2] != self._size:
            raise ValueError(f"{self.path}: a frame of {image.shape[:2]} in a video of {self._size}")
        seconds = self._frames / self._fps if seconds is None else seconds
        stamp = max(self._stamp + 1, round(seconds / TICKS))
        self._stamp = min(stamp, self._stamp + LONGEST)
        self._frames += 1
        try:
            if self._stream is None:
                self._open(*self._size)
            self._encode(self._to_frame(image))
        except (av.FFmpegError, OSError) as error:
            self._give_up(error)

    def close(self) -> None:
        """Finish the file and give it its name. Without any frame there is no file."""
        if self._container is None or self._part is None:
            return
        try:
            self._encode(None)
            container, self._container = self._container, None
            container.close()
            finish(self._part, self.path)
        except (av.FFmpegError, OSError) as error:
            self._give_up(error)

    def _open(self, height: int, width: int) -> None:
        self._part = part_of(self.path)
        options = {"movflags": "hybrid_fragmented", "flush_packets": "1"}
        self._container = av.open(str(self._part), "w", format="mp4", options=options)
        self._stream = self._container.add_stream(
            "libx264",
            rate=Fraction(self._fps).limit_denominator(1001),
            options={"preset": "veryfast", "crf": "20"},
        )
        context = self._stream.codec_context
        context.width, context.height, context.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        context.time_base = TICKS
        context.gop_size = max(1, round(KEY_SECONDS * self._fps))
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = 1, 1, 1, 1

    def _to_frame(self, image: Image) -> VideoFrame:
        height, width = image.shape[:2]
        if height % 2 or width % 2:
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
        frame = self._to_yuv.reformat(
            VideoFrame.from_ndarray(np.ascontiguousarray(image)),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )
        frame.pts, frame.time_base = self._stamp, TICKS
        return frame

    def _encode(self, frame: VideoFrame | None) -> None:
        assert self._container is not None
        assert self._stream is not None
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def _give_up(self, error: Exception) -> None:
        """Leave the part as it is: on a full disk, its fragments are all that can be saved."""
        container, self._container, self._part = self._container, None, None
        try:
            if container is not None:
                container.close()
        except (av.FFmpegError, OSError):
            pass
        raise write_error(error, self.path) from None
