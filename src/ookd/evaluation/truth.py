"""Ground truth for evaluation: one or several annotation files, or a data set in memory.

Files in the native form are read track by track, when their video's turn comes. Everything else goes through
`ookd.data.formats`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ookd import limits
from ookd.data.formats.bounds import check_classes
from ookd.data.formats.edits import log_beside
from ookd.data.formats.problems import Problem, raise_problem
from ookd.data.formats.records import JsonRecord, bad_area
from ookd.data.formats.ytvis import read_categories, read_videos
from ookd.errors import UserError
from ookd.evaluation.json_index import JsonIndex, index_json
from ookd.structures import Category, Dataset, Track, Video


@dataclass(slots=True)
class Split:
    """One part of the truth, and where the tracks of each video are, if they are read from a file."""

    name: str
    file: JsonIndex | None = None
    of_video: dict[int | None, list[int]] = field(default_factory=dict)


@dataclass(slots=True)
class GroundTruth:
    """Classes, videos (sorted by id; without tracks if these are read from a file) and splits."""

    categories: list[Category]
    videos: dict[int, Video]
    split_of: dict[int, Split]  # by video id
    splits: list[Split]
    root: Path | None = None  # folder of the frames

    def tracks(self, video: Video) -> tuple[list[Track], list[str]]:
        """The tracks of a video, and what is wrong with its annotations."""
        split = self.split_of[video.id]
        if split.file is None:
            return list(video.tracks), []
        places = split.of_video.get(video.id, [])
        tracks, faults = [], []
        known = {category.id for category in self.categories}
        if (fault := limits.TRACKS.exceeded(len(places))) is not None:
            raise UserError(f"{split.file.path}: video {video.id}: {fault}")
        for i, fields in zip(places, split.file.read("annotations", places), strict=True):
            where = f"annotation {i} of video {video.id}"
            wrong: list[Problem] = []
            record = JsonRecord(fields, split.file.path, where, wrong.append)
            track = _track(record, known)
            faults += [str(problem) for problem in wrong[:1]]
            if track is not None and not wrong:
                tracks.append(track)
        return tracks, faults


def load_truth(
    given: str | Path | Dataset | Sequence[str | Path], split: str | None = None, whole: bool = False
) -> GroundTruth:
    """Read classes and videos. Tracks stay in the file until their video's turn comes.

    `split` is for folders that hold several sets, such as train and val.
    """
    parts = [given] if isinstance(given, str | Path | Dataset) else list(given)
    if not parts:
        raise UserError("no ground truth given")
    first, *others = [_load(part, split, whole) for part in parts]
    for other in others:
        if other.categories != first.categories:
            names = f"{first.splits[0].name} and {other.splits[0].name}"
            raise UserError(f"{names} have different categories; splits of one benchmark share them")
        for video in other.videos:
            if video in first.videos:
                raise UserError(
                    f"video {video} is in both {first.split_of[video].name} and {other.splits[0].name}"
                )
        first.videos |= other.videos
        first.split_of |= other.split_of
        first.splits += other.splits
    first.videos = dict(sorted(first.videos.items()))
    return first


def _load(part: str | Path | Dataset, split: str | None, whole: bool) -> GroundTruth:
    if isinstance(part, Dataset):
        return _in_memory(part)
    path = Path(part)
    if path.is_file() and path.suffix == ".json" and not log_beside(path).exists():
        file = index_json(path, whole)
        if {"videos", "annotations"} <= set(file.names):
            return _from_file(path, file)
        if "videos" in file.names:
            raise UserError(f"{path}: has videos but no annotations to compare with")
    from ookd.data import formats

    return _in_memory(formats.load(path, split))


def _in_memory(dataset: Dataset) -> GroundTruth:
    split = Split(dataset.name or "truth")
    videos = _by_id(split.name, dataset.videos)
    known = {category.id for category in dataset.categories}
    for video in dataset.videos:
        for track in video.tracks:
            if track.category_id not in known:
                where = f"{split.name}: track {track.id} of video {video.id}"
                raise UserError(f"{where}: category {track.category_id} is not among the categories")
    return GroundTruth(dataset.categories, videos, dict.fromkeys(videos, split), [split], dataset.root)


def _by_id(where: str, videos: list[Video]) -> dict[int, Video]:
    found = {video.id: video for video in videos}
    if len(found) < len(videos):
        twice = next(id for id, count in Counter(video.id for video in videos).items() if count > 1)
        raise UserError(f"{where}: two videos have the id {twice}")
    return found


def _from_file(path: Path, file: JsonIndex) -> GroundTruth:
    split = Split(path.stem, file, file.by_video("annotations"))
    document = {name: _all(file, name) for name in ("categories", "videos")}
    categories, _ = read_categories(document, path, raise_problem)
    check_classes(categories, path, raise_problem)
    videos = read_videos(document, path, raise_problem)
    stray = [video for video in split.of_video if video not in videos]
    if stray:
        i = split.of_video[stray[0]][0]
        raise UserError(f"{path}: annotation {i} names video {stray[0]}, which is not among the videos")
    return GroundTruth(categories, videos, dict.fromkeys(videos, split), [split])


def _all(file: JsonIndex, name: str) -> list[Any]:
    return file.read(name, list(range(file.length(name)))) if name in file.names else []


def _track(record: JsonRecord, known: set[int]) -> Track | None:
    """The track of an annotation; None after a report of what is wrong with it."""
    number, category = record.integer("id"), record.integer("category_id")
    segmentations = record.array("segmentations")
    areas = [] if record.fields.get("areas") is None else record.array("areas")
    if number is None or category is None or segmentations is None or areas is None:
        return None
    if category not in known:
        record.complain(f"category {category} is not among the categories")
        return None
    if wrong := [f"frame {frame}: {what}" for frame, what in bad_area(areas)]:
        record.complain(wrong[0])
        return None
    extra = {"occlusion": record.fields["occlusion"]} if "occlusion" in record.fields else {}
    return Track(number, category, segmentations, [], areas, record.flag("iscrowd"), extra)
