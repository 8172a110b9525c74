"""Results of many videos in a folder: one file per video until all are done, so a killed run can continue.

`run.json` identifies the run. `videos/ID.jsonl` holds one result per line. At the end `results.json`, the
benchmark's list, replaces them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from ookd.errors import UserError
from ookd.files import new_file, write_error
from ookd.structures import TrackResult
from ookd.untrusted import read_json

RUN, RESULTS, VIDEOS = "run.json", "results.json", "videos"
BENCHMARK = ("video_id", "category_id", "score", "segmentations")


class ResultFolder:
    """A new folder, or one that the same run started. `run` names everything that the results depend on.

    With `overwrite`, finished results and those of another run are replaced. `frame_scores` are not part of a
    benchmark's list, and are kept only on request.
    """

    def __init__(
        self, folder: Path, run: Mapping[str, Any], overwrite: bool, frame_scores: bool = False
    ) -> None:
        self.folder, self.videos = folder, folder / VIDEOS
        self._whole = False  # the list exists
        self._fields = (*BENCHMARK, "frame_scores") if frame_scores else BENCHMARK
        if overwrite and (folder / RUN).is_file() and ((folder / RESULTS).exists() or self._other(run)):
            self._clear()
        if (folder / RESULTS).exists() and self.videos.is_dir() and not self._other(run):
            self._whole = True  # killed between writing the list and removing its parts
        elif (folder / RESULTS).exists():
            raise UserError(f"{folder / RESULTS}: exists; name another folder or add --overwrite")
        if (folder / RUN).is_file():
            if other := " and ".join(self._other(run)):
                raise UserError(
                    f"{folder}: started with another {other}; name another folder or add --overwrite"
                )
            self.videos.mkdir(exist_ok=True)
            return
        if folder.is_dir() and any(map(_foreign, folder.iterdir())):
            raise UserError(f"{folder}: holds something other than results; name another folder")
        _write(folder / RUN, [json.dumps(run, indent=2)])
        try:
            self.videos.mkdir(exist_ok=True)
        except OSError as error:
            raise write_error(error, folder) from None

    def done(self, video: int) -> bool:
        return self._whole or self._file(video).is_file()

    def add(self, video: int, results: Iterable[TrackResult]) -> None:
        """Store all results of one video."""
        _write(self._file(video), (self._line(result) for result in results))

    def read(self, video: int) -> list[TrackResult]:
        """The results of one video that were added."""
        return [found for found, _ in self._read(video)]

    def remove(self) -> None:
        """Remove the folder, once its results are elsewhere or not needed."""
        self._clear()
        self.folder.rmdir()

    def finish(self, videos: Iterable[int]) -> Path:
        """Join the results of these videos, which must all be done, into the benchmark's list."""
        path = self.folder / RESULTS
        videos = list(videos)
        if not self._whole:
            _write(path, _listed(line for video in videos for _, line in self._read(video)))
        for video in videos:
            self._file(video).unlink(missing_ok=True)
        self.videos.rmdir()
        return path

    def _read(self, video: int) -> Iterator[tuple[TrackResult, str]]:
        """The results of one video, and the lines that hold them."""
        file = self._file(video)
        try:
            for line in _lines(file):
                found = TrackResult(**orjson.loads(line))
                if found.video_id != video:
                    raise ValueError(f"about video {found.video_id}")
                yield found, line
        except (ValueError, TypeError):
            raise UserError(f"{file}: is damaged; delete it and run again") from None

    def _file(self, video: int) -> Path:
        return self.videos / f"{video}.jsonl"

    def _line(self, result: TrackResult) -> str:
        return orjson.dumps({name: getattr(result, name) for name in self._fields}).decode() + "\n"

    def _other(self, run: Mapping[str, Any]) -> list[str]:
        """The keys in which the run that started the folder differs from this one."""
        try:
            begun = read_json(self.folder / RUN)
        except UserError:
            begun = {}
        return [key for key in run if begun.get(key) != run[key]]

    def _clear(self) -> None:
        """Remove what an earlier run wrote, and nothing else."""
        for file in [*self.videos.glob("*.jsonl*"), self.folder / RESULTS, self.folder / RUN]:
            file.unlink(missing_ok=True)
        if self.videos.is_dir():
            self.videos.rmdir()


def _foreign(path: Path) -> bool:
    """Whether a file is not one that a run leaves if it is killed while starting or removing."""
    empty = path.name == VIDEOS and path.is_dir() and not any(path.iterdir())
    return path.name != f"{RUN}.part" and not empty


def _lines(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8") as text:
        for line in text:
            yield line.rstrip("\n")


def _listed(lines: Iterable[str]) -> Iterator[str]:
    """A JSON list, one entry per line."""
    before = "["
    for line in lines:
        yield before + line
        before = ",\n"
    yield "]\n" if before != "[" else "[]\n"


def _write(path: Path, texts: Iterable[str]) -> None:
    with new_file(path) as part, part.open("w", encoding="utf-8") as file:
        file.writelines(texts)
