"""What tracking writes, frame by frame as results come, with constant memory.

Every sink may be closed after any frame and then holds a whole file of what was done until then.
"""

from __future__ import annotations

import csv
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import cv2
import numpy as np
import orjson

from ookd.data import rle
from ookd.data.partial import PartialText, part_of, write_error
from ookd.data.video import FrameSource, VideoWriter
from ookd.errors import UserError
from ookd.structures import FrameResult
from ookd.viz import Overlay, class_name


class Sink(ABC):
    """Takes results in order and makes a file (or folder) of them when it is closed."""

    file: str  # its name in the output folder

    @abstractmethod
    def write(self, result: FrameResult) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AnnotatedVideo(Sink):
    """The video with its objects drawn in, those of at least `score`."""

    file = "annotated.mp4"

    def __init__(self, folder: Path, source: FrameSource, trails: bool = False, score: float = 0.0) -> None:
        self._score = score
        self._writer = VideoWriter(folder / self.file, source.fps)
        self._overlay = Overlay(trails)
        self._start: float | None = None

    def write(self, result: FrameResult) -> None:
        seconds = result.seconds
        if seconds is not None:  # a video that is tracked from its middle starts at 0 all the same
            self._start = seconds if self._start is None else self._start
            seconds -= self._start
        self._writer.write(self._overlay.draw(result.sure(self._score)), seconds)

    def close(self) -> None:
        self._writer.close()


class FramesJson(Sink):
    """Every frame's objects: `{"source", ..., "frames": [{"frame", "seconds", "objects": [...]}]}`."""

    file = "frames.json"

    def __init__(self, folder: Path, source: FrameSource) -> None:
        self._text = PartialText(folder / self.file)
        self._source = source
        self._frames = 0

    def write(self, result: FrameResult) -> None:
        if not self._frames:
            head = orjson.dumps(
                {
                    "source": self._source.name,
                    "fps": self._source.fps,
                    "width": self._source.width,
                    "height": self._source.height,
                    "classes": list(result.names),
                    "frames": [],
                }
            ).decode()
            self._text.write(head.removesuffix("]}"))
        frame = {
            "frame": result.index,
            "seconds": None if result.seconds is None else round(result.seconds, 4),
            "objects": [
                {
                    "id": row.id,
                    "label": row.label,
                    "class": row.name,
                    "score": round(row.score, 4),
                    "box_xyxy": [round(value, 2) for value in row.box],
                }
                for row in rows(result)
            ],
        }
        self._text.write((",\n" if self._frames else "\n") + orjson.dumps(frame).decode())
        self._frames += 1

    def close(self) -> None:
        if self._frames:
            self._text.write("\n]}\n")
        self._text.close()


@dataclass(frozen=True, slots=True)
class Row:
    """One object in one frame, in plain Python."""

    id: int
    label: int
    name: str
    score: float
    box: list[float]  # x1 y1 x2 y2


def rows(result: FrameResult) -> Iterator[Row]:
    for id, label, score, box in zip(
        result.ids.tolist(),
        result.labels.tolist(),
        result.scores.tolist(),
        result.boxes_xyxy.tolist(),
        strict=True,
    ):
        yield Row(id, label, class_name(result, label), score, box)


class BoxesCsv(Sink):
    """One line an object and frame, with a header."""

    file = "boxes.csv"

    def __init__(self, folder: Path, source: FrameSource) -> None:
        del source
        self._text = PartialText(folder / self.file)
        self._table = csv.writer(self._text)
        self._table.writerow(["frame", "seconds", "id", "class", "score", "x1", "y1", "x2", "y2"])

    def write(self, result: FrameResult) -> None:
        seconds = "" if result.seconds is None else f"{result.seconds:.4f}"
        for row in rows(result):
            box = [f"{value:.2f}" for value in row.box]
            self._table.writerow([result.index, seconds, row.id, row.name, f"{row.score:.4f}", *box])

    def close(self) -> None:
        self._text.close()


class BoxesMot(Sink):
    """The MOTChallenge's result lines, in which frames, identities and pixels are counted from 1."""

    file = "mot.txt"

    def __init__(self, folder: Path, source: FrameSource) -> None:
        del source
        self._text = PartialText(folder / self.file)

    def write(self, result: FrameResult) -> None:
        for row in rows(result):
            x1, y1, x2, y2 = row.box
            self._text.write(
                f"{result.index + 1},{row.id + 1},{x1 + 1:.2f},{y1 + 1:.2f},{x2 - x1:.2f},{y2 - y1:.2f},"
                f"{row.score:.4f},-1,-1,-1\n"
            )

    def close(self) -> None:
        self._text.close()


class MaskImages(Sink):
    """A 16-bit PNG a frame: background 0, identity i as i + 1; where masks overlap the better score wins."""

    file = "masks"

    def __init__(self, folder: Path, source: FrameSource) -> None:
        self._folder = folder / self.file
        self._shape = (source.height, source.width)
        try:
            self._folder.mkdir(exist_ok=True)
            for old in self._folder.glob("[0-9]*.png"):  # of the run that is overwritten
                old.unlink()
        except OSError as error:
            raise write_error(error, self._folder) from None

    def write(self, result: FrameResult) -> None:
        if len(result) and result.ids.max() >= 65535:
            raise UserError(
                f"frame {result.index}: more than 65535 identities do not fit 16 bits; save rle instead"
            )
        picture = np.zeros(self._shape, np.uint16)
        for place in np.argsort(result.scores, kind="stable"):
            picture[result.masks[place]] = result.ids[place] + 1
        path = self._folder / f"{result.index:06d}.png"
        try:
            part = part_of(path)
            part.write_bytes(cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes())
            part.replace(path)
        except OSError as error:
            raise write_error(error, path) from None

    def close(self) -> None:
        """Every file is whole already."""


class TracksRle(Sink):
    """Whole tracks with run-length masks, in the form of the benchmarks' result lists.

    Entry i of `segmentations` is frame i of the source, null where the object is not seen; a track's score is
    the mean over its frames, its class the one with most of it. Masks come frame by frame but are listed
    track by track, so they wait in a database beside the file.
    """

    file = "tracks.json"

    def __init__(self, folder: Path, source: FrameSource) -> None:
        self._path = folder / self.file
        self._size = [source.height, source.width]
        self._names: Sequence[str] = ()
        self._frames = 0  # of the source, so far
        self._spool = part_of(folder / SPOOL)
        self._broken = False
        try:
            self._spool.unlink(missing_ok=True)
            self._rows = sqlite3.connect(self._spool, isolation_level=None, check_same_thread=False)
            self._rows.executescript(
                "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;"
                "CREATE TABLE seen (id INTEGER, frame INTEGER, label INTEGER, score REAL, counts TEXT,"
                " PRIMARY KEY (id, frame)) WITHOUT ROWID; BEGIN"
            )
        except (OSError, sqlite3.Error) as error:
            raise write_error(error, self._path) from None

    def write(self, result: FrameResult) -> None:
        self._names, self._frames = result.names, result.index + 1
        masks = rle.encode_many(result.masks)
        try:
            self._rows.executemany(
                "INSERT INTO seen VALUES (?, ?, ?, ?, ?)",
                [
                    (row.id, result.index, row.label, row.score, mask["counts"])
                    for row, mask in zip(rows(result), masks, strict=True)
                ],
            )
        except sqlite3.Error as error:
            self._broken = True
            raise write_error(error, self._path) from None

    def close(self) -> None:
        with closing(self._rows):
            if self._broken:
                return
            text = PartialText(self._path)
            try:
                self._assemble(text)
            except sqlite3.Error as error:
                raise write_error(error, self._path) from None
            text.close()
        self._spool.unlink(missing_ok=True)

    def _assemble(self, text: PartialText) -> None:
        """Read the database track by track and write the list, one mask in memory at a time."""
        tracks = self._rows.execute("SELECT id, AVG(score) FROM seen GROUP BY id").fetchall()
        head = "[\n"
        for id, score in tracks:
            (label,) = self._rows.execute(
                "SELECT label FROM seen WHERE id = ? GROUP BY label ORDER BY SUM(score) DESC LIMIT 1", (id,)
            ).fetchone()
            entry = {
                "video_id": 1,
                "category_id": label + 1,
                "category": self._names[label] if label < len(self._names) else None,
                "track_id": id,
                "score": round(score, 6),
                "segmentations": [],
            }
            text.write(head + orjson.dumps(entry).decode().removesuffix("]}"))
            head = ",\n"
            next_frame = 0
            for frame, counts in self._rows.execute(
                "SELECT frame, counts FROM seen WHERE id = ? ORDER BY frame", (id,)
            ):
                mask = orjson.dumps({"size": self._size, "counts": counts}).decode()
                text.write("," * bool(next_frame) + "null," * (frame - next_frame) + mask)
                next_frame = frame + 1
            text.write(",null" * (self._frames - next_frame) + "]}")
        text.write("\n]\n" if tracks else "[]\n")


SINKS: dict[str, type[Sink]] = {
    "mp4": AnnotatedVideo,
    "json": FramesJson,
    "rle": TracksRle,
    "png": MaskImages,
    "csv": BoxesCsv,
    "mot": BoxesMot,
}
SPOOL = "tracks.spool"  # beside `TracksRle.file`, while it is written
PARTS = frozenset(f"{name}.part" for name in (*(sink.file for sink in SINKS.values()), SPOOL))


class Sinks(Sink):
    """Several at once. Each is closed whatever happens to the others.

    `score` is the least of an object that is drawn; tables and masks have all.
    """

    def __init__(
        self,
        folder: Path,
        kinds: Sequence[str],
        source: FrameSource,
        trails: bool = False,
        score: float = 0.0,
    ) -> None:
        self.files = [SINKS[kind].file for kind in kinds]
        begin: dict[str, Callable[[Path, FrameSource], Sink]] = {
            **SINKS,
            "mp4": partial(AnnotatedVideo, trails=trails, score=score),
        }
        with ExitStack() as stack:  # should one fail to begin, the others are closed
            self._sinks = [stack.enter_context(begin[kind](folder, source)) for kind in kinds]
            self._stack = stack.pop_all()

    def write(self, result: FrameResult) -> None:
        for sink in self._sinks:
            sink.write(result)

    def close(self) -> None:
        self._stack.close()
