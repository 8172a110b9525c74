"""The frames of one video on disk, each with its answer and its image, for reviewing."""

from __future__ import annotations

import os
import shutil
import threading
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from ookd.serve.rules import Refusal

CHUNKS = 6  # files of a bounded spool; the oldest is deleted when a new one starts


@dataclass(slots=True)
class _Chunk:
    file: BinaryIO
    first: int  # number of its first frame
    places: list[tuple[int, int, int]] = field(default_factory=list)  # offset, answer and image bytes
    size: int = 0


class FrameSpool:
    """Frame after frame. With `keep`, only about that many of the last frames stay."""

    def __init__(self, folder: Path, keep: int | None = None) -> None:
        self.stop = 0  # number of the next frame
        self._folder = folder
        self._chunk_frames = None if keep is None else max(1, keep // CHUNKS)
        self._chunks: deque[_Chunk] = deque()
        self._lock = threading.Lock()
        self._removed = False
        folder.mkdir()

    @property
    def first(self) -> int:
        """Number of the oldest stored frame."""
        with self._lock:
            return self._chunks[0].first if self._chunks else self.stop

    def append(self, answer: bytes, picture: bytes) -> None:
        with self._lock:
            self._check()
            if not self._chunks or len(self._chunks[-1].places) == self._chunk_frames:
                self._begin()
            chunk = self._chunks[-1]
            data = answer + picture
            written = os.pwrite(chunk.file.fileno(), data, chunk.size)
            if written != len(data):
                raise OSError("the disk is full")
            chunk.places.append((chunk.size, len(answer), len(picture)))
            chunk.size += written
            self.stop += 1

    def answer(self, number: int) -> bytes:
        with self._lock:
            file, (at, answer, _) = self._find(number)
            return os.pread(file, answer, at)

    def picture(self, number: int) -> bytes:
        with self._lock:
            file, (at, answer, picture) = self._find(number)
            return os.pread(file, picture, at + answer)

    def remove(self) -> None:
        """Delete everything. Later calls raise a `Refusal`."""
        with self._lock:
            self._removed = True
            while self._chunks:
                self._chunks.popleft().file.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _begin(self) -> None:
        path = self._folder / f"{self.stop:09d}"
        self._chunks.append(_Chunk(path.open("x+b", buffering=0), self.stop))
        if self._chunk_frames is not None and len(self._chunks) > CHUNKS + 1:
            old = self._chunks.popleft()
            old.file.close()
            Path(old.file.name).unlink()

    def _find(self, number: int) -> tuple[int, tuple[int, int, int]]:
        self._check()
        for chunk in self._chunks:
            if chunk.first <= number < chunk.first + len(chunk.places):
                return chunk.file.fileno(), chunk.places[number - chunk.first]
        raise Refusal(404, f"frame {number}: is not stored")

    def _check(self) -> None:
        if self._removed:
            raise Refusal(404, "this video was removed")
