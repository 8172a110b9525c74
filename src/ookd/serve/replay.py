"""Downloads: stored frames go through the sinks of `ookd track` again."""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Generator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from ookd.data import rle
from ookd.data.video import Frame, FrameSource
from ookd.data.video.container import ContainerSource
from ookd.data.video.source import Decode, Span
from ookd.serve.live import decoded
from ookd.serve.rules import Refusal, ServeRules
from ookd.serve.videos import TrackedVideo
from ookd.structures import FrameResult
from ookd.tracking.sinks import Sinks, sink_named


class SpooledSource(FrameSource):
    """The stored frames of a video. Without `pictures` they are black, for sinks that need no images."""

    def __init__(self, video: TrackedVideo, rules: ServeRules, pictures: bool) -> None:
        super().__init__(Span())
        self.name, self.fps = video.name, max(video.fps, 1.0)
        self.width, self.height, self.length = video.width, video.height, None
        self._video, self._pixels, self._pictures = video, rules.pixels, pictures

    def read(self) -> Generator[tuple[int, float, Decode], None, None]:
        spool = self._video.spool
        blank = np.zeros((self.height, self.width, 3), np.uint8)
        for number in range(spool.first, spool.stop):
            seconds = orjson.loads(spool.answer(number))["seconds"]
            picture = partial(decoded, spool.picture(number), self._pixels)
            yield number, seconds, picture if self._pictures else partial(_same, blank)


def replayed(
    video: TrackedVideo,
    recording: ContainerSource | None,
    kind: str,
    classes: Collection[str] | None,
    score: float,
    out: Path,
    rules: ServeRules,
) -> Path:
    """Write the results so far as one kind of file into the folder `out`; folders become a zip."""
    spool, sink = video.spool, sink_named(kind)
    source: FrameSource = SpooledSource(video, rules, sink.draws)
    if sink.draws and recording is not None:
        source = recording
    if not spool.stop:
        raise Refusal(409, "no frame has been tracked yet")
    out.mkdir()
    with Sinks(out, [kind], source, trails=True) as sinks, closing(source.frames()) as frames:
        for frame in frames:
            if frame.index >= spool.stop or video.stopping.is_set():
                break
            sinks.write(_result(video, frame, classes, score))
    made = out / sink.file
    return _zipped(made) if made.is_dir() else made


def _result(video: TrackedVideo, frame: Frame, classes: Collection[str] | None, score: float) -> FrameResult:
    """The result of a frame, with only the objects that were asked for."""
    objects: list[dict[str, Any]] = [
        one
        for one in orjson.loads(video.spool.answer(frame.index))["objects"]
        if one["score"] >= score and (classes is None or one["class"] in classes)
    ]
    masks = rle.decode_many([one["rle"] for one in objects]).reshape(-1, video.height, video.width)
    return FrameResult(
        frame.index,
        np.array([one["id"] for one in objects], np.int64),
        np.array([one["label"] for one in objects], np.int64),
        np.array([one["score"] for one in objects], np.float32),
        np.array([one["box_xyxy"] for one in objects], np.float32).reshape(-1, 4),
        masks,
        video.names,
        frame.image,
        frame.seconds,
    )


def _zipped(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # PNG is already compressed
        for file in sorted(folder.iterdir()):
            archive.write(file, f"{folder.name}/{file.name}")
    return path


def _same(image: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return image
