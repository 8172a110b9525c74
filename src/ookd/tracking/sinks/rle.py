"""Whole tracks with run-length masks."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import orjson

from ookd.data import rle
from ookd.files import PartialText, part_of, write_error
from ookd.structures import FrameResult
from ookd.tracking.sinks import SPOOL
from ookd.tracking.sinks.sink import Sink, rows


@dataclass
class TracksRle(Sink):
    """Whole tracks with run-length masks, in the form of the benchmarks' result lists.

    Entry i of `segmentations` is frame i of the source, null where the object is not visible. A track's score
    is the mean over its frames; its class is the one with the largest sum of scores. Masks come frame by
    frame but are listed track by track, so they wait in a database next to the file.
    """

    name = "rle"
    file = "tracks.json"

    def __post_init__(self) -> None:
        self._names: Sequence[str] = ()
        self._frames = 0  # of the source, so far
        self._spool = part_of(self.folder / SPOOL)
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
            raise write_error(error, self.path) from None

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
            raise write_error(error, self.path) from None

    def close(self) -> None:
        with closing(self._rows):
            if self._broken:
                return
            text = PartialText(self.path)
            try:
                self._assemble(text)
            except sqlite3.Error as error:
                raise write_error(error, self.path) from None
            text.close()
        self._spool.unlink(missing_ok=True)

    def _assemble(self, text: PartialText) -> None:
        """Read the database track by track and write the list, one mask in memory at a time."""
        tracks = self._rows.execute("SELECT id, AVG(score) FROM seen GROUP BY id").fetchall()
        head, size = "[\n", [self.source.height, self.source.width]
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
                mask = orjson.dumps({"size": size, "counts": counts}).decode()
                text.write("," * bool(next_frame) + "null," * (frame - next_frame) + mask)
                next_frame = frame + 1
            text.write(",null" * (self._frames - next_frame) + "]}")
        text.write("\n]\n" if tracks else "[]\n")
