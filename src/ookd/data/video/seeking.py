"""Read any frame of a file by its exact number.

Players seek to about the right place. Training clips and `--start` need exactly frame 4711, also with
B-frames, open groups of pictures and variable rates. So the packets are listed once, without decoding, and
a frame is identified by its time stamp. Where that is impossible, decoding starts at the beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ookd.data.video.decoding import ToRgb, intact_frames, open_container
from ookd.data.video.source import Image, Moment
from ookd.errors import UserError


@dataclass(frozen=True, slots=True)
class FrameIndex:
    """Time stamps in units of the stream, ascending: entry i belongs to frame i."""

    stamps: NDArray[np.int64]  # [frames]
    keys: NDArray[np.int64]  # [key frames] where decoding can start; the first is stamps[0]

    def key_before(self, number: int) -> int:
        return int(self.keys[np.searchsorted(self.keys, self.stamps[number], side="right") - 1])


def frame_index(path: Path) -> FrameIndex | None:
    """The frames of a file; None if its packets do not correspond to frames one to one."""
    status = path.stat()
    return _frame_index(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=256)
def _frame_index(path: Path, modified: int, size: int) -> FrameIndex | None:
    del modified, size  # a file that was rewritten is listed again
    stamps, keys = [], []
    container, stream = open_container(path)
    with container:
        if stream.codec_context.name == "vp8":  # some of its packets are never shown
            return None
        try:
            for packet in container.demux(stream):
                if packet.size == 0 or packet.is_discard:
                    continue
                if packet.pts is None:
                    return None
                stamps.append(packet.pts)
                if packet.is_keyframe:
                    keys.append(packet.pts)
        except av.FFmpegError:
            pass  # cut off: keep what was listed
    index = FrameIndex(np.unique(stamps).astype(np.int64), np.unique(keys).astype(np.int64))
    one_to_one = len(index.stamps) == len(stamps) > 0 and len(keys) > 0
    return index if one_to_one and index.keys[0] == index.stamps[0] else None


def open_at(path: Path, moment: Moment) -> tuple[InputContainer, VideoStream, int, float | None]:
    """Open a file shortly before a moment: also the number of the frame that is decoded next, and the time
    stamp of frame 0 in seconds (None if the next one is frame 0)."""
    container, stream = open_container(path)
    index = frame_index(path)
    if index is None or stream.time_base is None:
        return container, stream, 0, None
    start = float(index.stamps[0] * stream.time_base)
    if moment.frame is not None:
        number = min(moment.frame, len(index.stamps) - 1)
    else:
        stamp = ((moment.seconds or 0.0) + start) / float(stream.time_base)
        number = max(0, int(np.searchsorted(index.stamps, stamp, side="right")) - 1)
    key = index.key_before(number)
    try:
        container.seek(key, stream=stream)
        with closing(intact_frames(container, stream)) as frames:
            found = next(frames).pts
        container.seek(key, stream=stream)
    except (av.FFmpegError, StopIteration):
        found = None
    if found is not None:
        first = int(np.searchsorted(index.stamps, found))
        if first <= number and index.stamps[first] == found:
            return container, stream, first, start
    container.close()
    return *open_container(path), 0, None


def read_frames(path: Path | str, indices: Sequence[int]) -> list[Image]:
    """Exactly these frames, in this order; numbers may repeat."""
    path = Path(path)
    wanted = sorted(set(indices))
    if wanted and wanted[0] < 0:
        raise UserError(f"{path}: frame {wanted[0]} was requested; frames count from 0")
    images: dict[int, Image] = {}
    index = frame_index(path) if path.exists() else None
    if index is not None:
        if wanted and wanted[-1] >= len(index.stamps):
            raise UserError(
                f"{path}: frame {wanted[-1]} was requested, but there are only {len(index.stamps)} frames"
            )
        images = _by_seeking(path, index, wanted)
    missing = [number for number in wanted if number not in images]
    if missing:
        images |= _by_counting(path, missing)
    return [images[number] for number in indices]


def _by_seeking(path: Path, index: FrameIndex, wanted: Sequence[int]) -> dict[int, Image]:
    """Frames by seeking to the key frame before each; those that are not found are left out."""
    to_rgb = ToRgb()
    images: dict[int, Image] = {}
    container, stream = open_container(path)
    with container:
        for key, numbers in groupby(wanted, index.key_before):
            number_of = {int(index.stamps[number]): number for number in numbers}
            last = max(number_of)
            try:
                container.seek(key, stream=stream)
                for frame in intact_frames(container, stream):
                    if frame.pts in number_of:
                        images[number_of[frame.pts]] = to_rgb(frame)
                    if frame.pts is None or frame.pts >= last:
                        break
            except av.FFmpegError:
                continue
    return images


def _by_counting(path: Path, wanted: Sequence[int]) -> dict[int, Image]:
    """Frames by decoding and counting from the beginning."""
    to_rgb = ToRgb()
    images: dict[int, Image] = {}
    container, stream = open_container(path)
    seen = 0
    with container:
        try:
            for seen, frame in enumerate(intact_frames(container, stream), 1):
                if seen - 1 in wanted:
                    images[seen - 1] = to_rgb(frame)
                if len(images) == len(wanted):
                    return images
        except av.FFmpegError:
            pass
    lost = next(number for number in wanted if number not in images)
    raise UserError(f"{path}: frame {lost} was requested, but only {seen} can be decoded")
