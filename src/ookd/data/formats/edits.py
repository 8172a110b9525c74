"""Corrections of labels: a log next to the annotations, applied when they are read.

The log is a file of JSON lines that only grows: `instances.edits.jsonl` next to `instances.json`. The
annotations never change, and another line undoes an edit. To make corrections final, convert the data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from ookd import untrusted
from ookd.data.confidence import SCORE, SCORES
from ookd.data.formats.problems import Problem, Report
from ookd.errors import UserError
from ookd.files import write_error
from ookd.structures import Category, Dataset, Track, Video

REVIEWED = "reviewed"  # the field of a video that is marked as done
_NEEDED = {
    "drop": {"track"},  # not an object: remove the track
    "keep": {"track"},  # confirmed: an object in all its frames
    "rename": {"track", "name"},  # to another class
    "join": {"track", "other"},  # `other` is the same object, and becomes part of `track`
    "cut": {"track", "frame", "new"},  # from this frame on it is another object, whose id is `new`
    "done": {"done"},  # the whole video is reviewed, or is not
    "undo": set[str](),  # undo the last edit of this video that still counts
}


class Edit(BaseModel, frozen=True, extra="forbid", strict=True):
    """One line of the log."""

    op: Literal["drop", "keep", "rename", "join", "cut", "done", "undo"]
    video: int
    track: int | None = None
    name: str | None = Field(None, min_length=1)
    other: int | None = None
    frame: int | None = Field(None, ge=1)
    new: int | None = None
    done: bool | None = None

    @model_validator(mode="after")
    def _complete(self) -> Edit:
        given = {field for field in self.model_fields_set if getattr(self, field) is not None}
        if given - {"op", "video"} != _NEEDED[self.op]:
            raise ValueError(f"'{self.op}' needs exactly {', '.join(sorted(_NEEDED[self.op])) or 'a video'}")
        return self


def log_beside(annotations: Path) -> Path:
    """The log of an annotation file."""
    return annotations.with_name(f"{annotations.stem}.edits.jsonl")


def read_edits(log: Path, report: Report) -> list[Edit]:
    """The edits that count, in order; invalid lines are reported and left out."""
    if untrusted.fault_of(log) == untrusted.MISSING:
        return []
    edits: list[Edit] = []
    for number, line in enumerate(untrusted.read_lines(log), 1):
        if not line.strip():
            continue
        try:
            edits = after(edits, parse_edit(line))
        except ValueError as error:
            report(Problem(log, f"line {number}", str(error)))
    return edits


def parse_edit(text: str | bytes) -> Edit:
    """The edit that a JSON text describes; raises `ValueError` with a one-line reason."""
    try:
        return Edit.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{where}: {first['msg']}" if where else first["msg"]) from None


def after(edits: Sequence[Edit], new: Edit) -> list[Edit]:
    """The edits that count once `new` is made."""
    if new.op != "undo":
        return [*edits, new]
    last = max((n for n, edit in enumerate(edits) if edit.video == new.video), default=None)
    if last is None:
        raise ValueError(f"video {new.video}: there is nothing to take back")
    return [edit for n, edit in enumerate(edits) if n != last]


def append_edit(log: Path, edit: Edit) -> None:
    """Write an edit to the end of the log."""
    try:
        with log.open("a", encoding="utf-8") as file:
            file.write(edit.model_dump_json(exclude_none=True) + "\n")
    except OSError as error:
        raise write_error(error, log) from None


def corrected(dataset: Dataset, log: Path, report: Report) -> Dataset:
    """The data with the edits of the log."""
    by_video: dict[int, list[Edit]] = {}
    for edit in read_edits(log, report):
        by_video.setdefault(edit.video, []).append(edit)
    if not by_video:
        return dataset
    for number in by_video.keys() - {video.id for video in dataset.videos}:
        report(Problem(log, "", f"corrects video {number}, which the annotations do not have"))
    videos = []
    for video in dataset.videos:
        for edit in by_video.get(video.id, []):
            try:
                video = edited(video, edit, dataset.categories)
            except ValueError as error:
                report(Problem(log, f"video {video.id}", f"'{edit.op}': {error}"))
        videos.append(video)
    return replace(dataset, videos=videos)


def edited(video: Video, edit: Edit, categories: Iterable[Category]) -> Video:
    """The video after one edit; raises `ValueError` with a one-line reason."""
    if edit.op == "done":
        rest = {key: value for key, value in video.extra.items() if key != REVIEWED}
        return replace(video, extra={**rest, REVIEWED: True} if edit.done else rest)
    tracks = {track.id: track for track in video.tracks}
    if edit.track not in tracks:
        raise ValueError(f"there is no track {edit.track}")
    track = tracks[edit.track]
    if edit.op == "drop":
        del tracks[track.id]
    elif edit.op == "keep":
        extra = {key: value for key, value in track.extra.items() if key != SCORES}
        tracks[track.id] = replace(track, iscrowd=False, extra=extra)
    elif edit.op == "rename":
        numbers = {category.name: category.id for category in categories}
        if edit.name not in numbers:
            raise ValueError(f"there is no class '{edit.name}'; choose from {', '.join(numbers)}")
        tracks[track.id] = replace(track, category_id=numbers[edit.name])
    elif edit.op == "join":
        if edit.other not in tracks or edit.other == track.id:
            raise ValueError(f"there is no other track {edit.other}")
        tracks[track.id] = joined_tracks(track, tracks.pop(edit.other))
    else:
        assert edit.new is not None
        assert edit.frame is not None
        if edit.new in tracks:
            raise ValueError(f"the id {edit.new} is taken")
        tracks[track.id], tracks[edit.new] = cut_track(track, edit.frame, edit.new)
    return replace(video, tracks=list(tracks.values()))


def joined_tracks(track: Track, other: Track) -> Track:
    """Both tracks as one. Where both are visible, the first one's mask counts."""
    mine = [mask is not None for mask in track.segmentations]

    def either(a: Sequence[Any], b: Sequence[Any]) -> list[Any]:
        return [x if here else y for x, y, here in zip(a, b, mine, strict=True)]

    extra = dict(track.extra)
    for key, value in track.extra.items():
        if _per_frame(value, mine) and _per_frame(other.extra.get(key), mine):
            extra[key] = either(value, other.extra[key])
    if SCORES in extra and not _per_frame(other.extra.get(SCORES), mine):  # the other is certain everywhere
        extra[SCORES] = either(extra[SCORES], [None] * len(mine))
    return replace(
        track,
        segmentations=either(track.segmentations, other.segmentations),
        boxes_xywh=either(track.boxes_xywh, other.boxes_xywh),
        areas=either(track.areas, other.areas),
        iscrowd=track.iscrowd and other.iscrowd,
        extra=extra,
    )


def cut_track(track: Track, frame: int, new: int) -> tuple[Track, Track]:
    """The track before a frame, and from it on under a new id."""
    shown = [mask is not None for mask in track.segmentations]
    if not any(shown[:frame]) or not any(shown[frame:]):
        raise ValueError(f"track {track.id} is not seen on both sides of frame {frame}")

    def part(number: int, inside: Sequence[bool]) -> Track:
        def some(values: Sequence[Any]) -> list[Any]:
            return [value if here else None for value, here in zip(values, inside, strict=True)]

        extra = {k: some(v) if _per_frame(v, shown) else v for k, v in track.extra.items()}
        scores = [score for score in extra.get(SCORES) or [] if isinstance(score, int | float)]
        if scores:
            extra[SCORE] = sum(scores) / len(scores)
        return Track(
            number,
            track.category_id,
            some(track.segmentations),
            some(track.boxes_xywh),
            some(track.areas),
            track.iscrowd,
            extra,
        )

    first = [t < frame for t in range(len(shown))]
    return part(track.id, first), part(new, [not here for here in first])


def _per_frame(value: Any, frames: Sequence[bool]) -> bool:
    return isinstance(value, list) and len(value) == len(frames)


def check_no_edits(folder: Path) -> None:
    """Raise if a folder that is to be replaced holds corrections."""
    for log in sorted(folder.glob("*.edits.jsonl")) if folder.is_dir() else []:
        raise UserError(f"{log}: holds corrections of these labels; name another folder, or delete it first")
