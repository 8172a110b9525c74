"""Check that frames exist, can be decoded, and have the size that their annotations give."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ookd.data.formats import Problem
from ookd.data.frames import decode_image, frame_path, image_size, read_bytes, through_video
from ookd.errors import UserError
from ookd.structures import Dataset, Video

_MISSING = "no such image"


@dataclass(frozen=True, slots=True)
class _InClip:
    """A frame of the data set that lies in a video file."""

    number: int
    video: Video
    index: int


class FrameCheck:
    """Checks images video by video, and each video file once, at the end."""

    def __init__(self, dataset: Dataset, pixels: bool) -> None:
        self._dataset = dataset
        self._pixels = pixels
        self._images = 0
        self._missing: list[Problem] = []
        self._clips: dict[Path, list[_InClip]] = defaultdict(list)
        self._pool = ThreadPoolExecutor()  # decoding releases Python's lock

    def __enter__(self) -> FrameCheck:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def check_video(self, video: Video) -> Iterator[Problem | None]:
        """Yields once a frame; None where nothing is wrong, or not known yet."""
        paths = [frame_path(self._dataset, video, index) for index in range(video.length)]
        checks = [self._begin(path, video, index) for index, path in enumerate(paths)]
        for index, (path, result) in enumerate(zip(paths, checks, strict=True)):
            fault = result.result() if isinstance(result, Future) else result
            problem = None if fault is None else Problem(path, _place(video, index), fault)
            if fault == _MISSING and problem is not None:
                self._missing.append(problem)
                problem = None
            yield problem

    def _begin(self, path: Path, video: Video, index: int) -> Future[str | None] | str | None:
        try:
            through = through_video(path)
        except UserError as error:
            return _bare(error, path)
        if through is not None:
            self._clips[through[0]].append(_InClip(through[1], video, index))
            return None
        self._images += 1
        return self._pool.submit(_image_fault, path, video, self._pixels)

    def finish(self, file: Path) -> Iterator[Problem]:
        """Problems that are known only after all videos were checked."""
        if len(self._missing) == self._images > 1:
            root = self._dataset.root
            what = f"none of its {self._images} frames is in {root}; say where they are with --frames"
            yield Problem(file, "", what)
        else:
            yield from self._missing
        for path, frames in self._clips.items():
            yield from _clip_problems(path, frames)


def _image_fault(path: Path, video: Video, pixels: bool) -> str | None:
    try:
        if pixels:
            height, width = decode_image(read_bytes(path), path).shape[:2]
        else:
            width, height = image_size(path)
    except UserError as error:
        return _bare(error, path)
    return _wrong_size(width, height, video)


def _bare(error: UserError, path: Path) -> str:
    """The message without the path, which the problem states."""
    return str(error).removeprefix(f"{path}: ")


def _wrong_size(width: int, height: int, video: Video) -> str | None:
    if (width, height) == (video.width, video.height):
        return None
    turned = "; turned by its EXIF data?" if (height, width) == (video.width, video.height) else ""
    return f"is {width} x {height}, but its annotations are for {video.width} x {video.height}{turned}"


def _clip_problems(path: Path, frames: list[_InClip]) -> Iterator[Problem]:
    """Decodes the whole file, which alone tells how many of its frames can be read."""
    from ookd.data.video import open_source

    last = max(frames, key=lambda frame: frame.number)
    try:
        if not path.exists():
            raise UserError("no such video")
        with open_source(path) as source:
            wrong_size = _wrong_size(source.width, source.height, last.video)
            readable = sum(1 for _ in source)
    except UserError as error:
        yield Problem(path, _place(last.video, last.index), _bare(error, path))
        return
    if last.number >= readable:
        what = f"frame {last.number} is annotated, but only {readable} frames can be read"
        yield Problem(path, _place(last.video, last.index), what)
    if wrong_size is not None:
        yield Problem(path, _place(last.video, last.index), wrong_size)


def _place(video: Video, index: int) -> str:
    return f"video {video.id}, frame {index}"
