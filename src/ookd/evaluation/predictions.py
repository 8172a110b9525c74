"""Predictions for evaluation: result lists in files or in memory, each entry checked against the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ookd import limits
from ookd.data.formats.records import is_number
from ookd.errors import UserError
from ookd.evaluation.json_index import JsonIndex, index_json
from ookd.structures import TrackResult, Video
from ookd.tracking.result_folder import RESULTS, RUN

MOST_LINES = 100  # problems listed in one message


@dataclass(frozen=True, slots=True)
class Prediction:
    """A result and its place in the whole list."""

    place: int
    result: TrackResult


@dataclass(slots=True)
class Predictions:
    """All entries: in files, read when their video's turn comes, or in memory."""

    files: list[JsonIndex] = field(default_factory=list)
    of_video: list[dict[int | None, list[int]]] = field(default_factory=list)  # one for each file
    in_memory: dict[int, list[tuple[int, TrackResult]]] = field(default_factory=dict)
    count: int = 0

    def read(self, video: Video, known: set[int] | None) -> tuple[list[Prediction], list[str]]:
        """The valid entries of a video, and what is wrong with the others.

        `known` are the category ids of the truth; None accepts every category.
        """
        entries: list[Prediction] = []
        faults: list[str] = []
        places = [of_video.get(video.id, []) for of_video in self.of_video]
        limits.PREDICTIONS.check(sum(map(len, places)), video_label(video))
        for i, result in self.in_memory.get(video.id, []):
            if (fault := _fault(_fields(result), known)) is None:
                entries.append(Prediction(i, result))
            else:
                faults.append(f"result {i} ({video_label(video)}): {fault}")
        offset = 0
        for file, indices in zip(self.files, places, strict=True):
            for i, record in zip(indices, file.read("", indices), strict=True):
                fault = _fault(record, known)
                if fault is None:
                    entries.append(Prediction(offset + i, _result(record)))
                else:
                    faults.append(f"{file.path}: entry {i} ({video_label(video)}): {fault}")
            offset += file.length("")
        return entries, faults

    def name(self, place: int) -> str:
        """How messages refer to the entry at a place of the whole list."""
        for file in self.files:
            if place < file.length(""):
                return f"{file.path}: entry {place}"
            place -= file.length("")
        return f"result {place}"

    def strays(self, videos: dict[int, Video]) -> list[str]:
        """A line for each entry that belongs to no video of the truth."""
        lines = [
            f"result {i}: video {video} is not in the ground truth"
            for video, items in self.in_memory.items()
            if video not in videos
            for i, _ in items
        ]
        for file, of_video in zip(self.files, self.of_video, strict=True):
            for video, indices in of_video.items():
                if video is None or video not in videos:
                    entries = zip(indices, file.read("", indices), strict=True)
                    lines += [f"{file.path}: entry {i}: {_why_stray(entry)}" for i, entry in entries]
        return lines


def load_predictions(
    given: str | Path | Sequence[TrackResult] | Sequence[str | Path], whole: bool = False
) -> Predictions:
    """Find the entries of result files or of folders of `ookd predict`, or take results in memory."""
    if isinstance(given, str | Path):
        given = [given]
    predictions = Predictions()
    for i, part in enumerate(given):
        if isinstance(part, TrackResult):
            predictions.in_memory.setdefault(part.video_id, []).append((i, part))
            predictions.count += 1
            continue
        file = index_json(_result_file(Path(part)), whole)
        if file.names != [""]:
            raise UserError(f"{part}: a result file is a list of entries, but this is an object")
        predictions.files.append(file)
        predictions.of_video.append(file.by_video(""))
        predictions.count += file.length("")
    return predictions


def _result_file(path: Path) -> Path:
    """The list itself, where a folder is named that `ookd predict` wrote."""
    if not path.is_dir() or (path / RESULTS).is_file():
        return path / RESULTS if path.is_dir() else path
    if (path / RUN).is_file():
        raise UserError(f"{path}: not all videos are predicted; run `ookd predict` again to continue")
    raise UserError(
        f"{path}: is a folder without {RESULTS}; name a result list, or what `ookd predict` wrote"
    )


def problems(summary: str, lines: list[str]) -> UserError:
    """One error that lists many problems, one a line."""
    shown = lines[:MOST_LINES]
    more = [f"... and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else []
    return UserError("\n".join([f"{summary}:", *shown, *more]))


def video_label(video: Video) -> str:
    return f"video {video.id}"


def _fields(result: TrackResult) -> dict[str, Any]:
    return {name: getattr(result, name) for name in ("category_id", "score", "segmentations")}


def _why_stray(entry: Any) -> str:
    """Why an entry belongs to no video of the truth."""
    if not isinstance(entry, dict):
        return "is not an object"
    if "video_id" not in entry:
        return "has no video_id"
    if type(entry["video_id"]) is not int:
        return f"video_id {entry['video_id']!r:.40} is not a whole number"
    return f"video {entry['video_id']} is not in the ground truth"


def _fault(record: dict[str, Any], known: set[int] | None) -> str | None:
    """What is wrong with an entry, apart from its masks."""
    for key in ("category_id", "score", "segmentations"):
        if key not in record:
            return f"has no {key}"
    category, score = record["category_id"], record["score"]
    if type(category) is not int or (known is not None and category not in known):
        return f"category {category!r:.40} is not in the ground truth"
    if not is_number(score):
        return f"score {score!r:.40} is not a finite number"
    if not isinstance(record["segmentations"], list):
        return "segmentations is not a list"
    return None


def _result(record: dict[str, Any]) -> TrackResult:
    return TrackResult(
        record["video_id"], record["category_id"], float(record["score"]), record["segmentations"]
    )
