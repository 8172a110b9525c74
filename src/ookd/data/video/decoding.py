"""Decode FFmpeg containers to upright RGB images."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ookd import untrusted
from ookd.data.video.source import Image
from ookd.errors import UserError


def open_container(address: Path | str, called: str = "", **how: Any) -> tuple[InputContainer, VideoStream]:
    """Open anything that FFmpeg can read; messages call it `called`."""
    called = called or str(address)
    if isinstance(address, Path):
        if (fault := untrusted.fault_of(address)) is not None:
            raise UserError(f"{called}: {fault}")
        if address.stat().st_size == 0:
            raise UserError(f"{called}: is empty (0 bytes)")
    try:
        container = _open(str(address), **how)
    except av.error.InvalidDataError:
        raise UserError(f"{called}: is not a video, or its beginning is damaged") from None
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{called}: {reason(error)}") from None
    if not container.streams.video:
        container.close()
        raise UserError(f"{called}: has no video stream")
    stream = container.streams.video[0]
    if isinstance(address, Path) and container.format.name != "mpegts":
        _tell_damage(stream)
    return container, stream


def _tell_damage(stream: VideoStream) -> None:
    """Make the decoder fail at damage. Otherwise it guesses the missing part, and later frames are wrong too.

    Threads for the slices of a frame would hide the failure. Broadcasts and live streams lose packets all the
    time, so there guessing is better.
    """
    if stream.codec_context.name in ("h264", "hevc"):
        stream.codec_context.thread_type = "NONE"
        stream.codec_context.options = {"err_detect": "explode"}


def reason(error: Exception) -> str:
    """Why FFmpeg failed, in plain words."""
    if isinstance(error, av.error.ExitError):  # PyAV stops FFmpeg when its time is over
        return "no answer in time"
    return str(getattr(error, "strerror", None) or error)


def _open(address: str, **how: Any) -> InputContainer:
    container: InputContainer
    lenient: dict[str, Any] = {"metadata_errors": "replace"}  # titles need not be UTF-8
    try:
        container = av.open(address, **lenient, **how)
    except TypeError:  # PyAV 19 knows no such option: it accepts any title
        container = av.open(address, **how)
    return container


class ToRgb:
    """Turns a decoded frame into an upright 8-bit RGB image; alpha is dropped."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._matrix: NDArray[np.int32] | None = None
        self._first = True

    def __call__(self, frame: VideoFrame) -> Image:
        # One thread, because starting FFmpeg's pool for each frame costs more than it saves.
        rgb = self._reformatter.reformat(frame, format="rgb24", threads=1)
        image = rgb.to_ndarray().astype(np.uint8, copy=False)
        if self._first:  # asking every frame would keep them alive until the next garbage collection
            self._first = False
            matrix: Any = frame.side_data.get("DISPLAYMATRIX")
            self._matrix = None if matrix is None else np.frombuffer(bytes(matrix), np.int32)
        return image if self._matrix is None else turned(image, self._matrix)


def turned(image: Image, matrix: NDArray[np.int32]) -> Image:
    """Apply a display matrix [9], x' = a x + c y, y' = b x + d y: one of eight rotations and flips."""
    a, b, _, c, d = matrix[:5].tolist()
    if abs(b) > abs(a):
        image, across, down = image.swapaxes(0, 1), c, b
    else:
        across, down = a, d
    return np.ascontiguousarray(image[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1])


def intact_frames(container: InputContainer, stream: VideoStream) -> Generator[VideoFrame, None, None]:
    """Frames in display order up to the first damage, then `av.FFmpegError`."""
    packets_tell_damage = container.format.name != "mpegts"  # where they mark gaps that decoders can handle
    decoding = False
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt and packets_tell_damage:
                raise av.error.InvalidDataError(1, "a packet is cut off")
            decoding = True
            yield from packet.decode()
            decoding = False
    except av.FFmpegError:
        if not decoding:  # frames still in the decoder come before the damage; else they are next to it
            yield from stream.codec_context.decode(None)
        raise


def rate_of(stream: VideoStream) -> float:
    return float(stream.average_rate or stream.guessed_rate or 25)


@dataclass(frozen=True, slots=True)
class Opened:
    """A container whose first frame is decoded, and all its frames, including that one."""

    container: InputContainer
    stream: VideoStream
    first: Image
    frames: Iterator[VideoFrame]


def open_decoded(address: Path | str, called: str = "", **how: Any) -> Opened:
    """Open a container and decode its first frame: a file may have a valid header and nothing after it."""
    container, stream = open_container(address, called, **how)
    frames = intact_frames(container, stream)
    try:
        first = next(frames)
    except (av.FFmpegError, StopIteration):
        container.close()
        raise UserError(f"{called or address}: no frame can be decoded") from None
    return Opened(container, stream, ToRgb()(first), chain([first], frames))
