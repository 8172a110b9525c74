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
        for i, record in zip(places, split.file.read("annotations", places), strict=True):
            track = _track(record, known)
            if isinstance(track, str):
                faults.append(f"{split.file.path}: annotation {i} of video {video.id}: {track}")
            else:
                tracks.append(track)
        return tracks, faults


def load_truth(given: str | Path | Dataset | Sequence[str | Path], whole: bool = False) -> GroundTruth:
    """Read classes and videos. Tracks stay in the file until their video's turn comes."""
    parts = [given] if isinstance(given, str | Path | Dataset) else list(given)
    if not parts:
        raise UserError("no ground truth given")
    first, *others = [_load(part, whole) for part in parts]
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


def _load(part: str | Path | Dataset, whole: bool) -> GroundTruth:
    if isinstance(part, Dataset):
        return _in_memory(part)
    path = Path(part)
    if path.is_file() and path.suffix == ".json":
        file = index_json(path, whole)
        if {"videos", "annotations"} <= set(file.names):
            return _from_file(path, file)
        if "videos" in file.names:
            raise UserError(f"{path}: has videos but no annotations to compare with")
    from ookd.data import formats

    return _in_memory(formats.load(path))


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
    categories = [_category(path, record) for record in _all(file, "categories")]
    videos = _by_id(str(path), [_video(path, record) for record in _all(file, "videos")])
    stray = [video for video in split.of_video if video not in videos]
    if stray:
        i = split.of_video[stray[0]][0]
        raise UserError(f"{path}: annotation {i} names video {stray[0]}, which is not among the videos")
    if not categories:
        raise UserError(f"{path}: has no categories")
    return GroundTruth(categories, videos, dict.fromkeys(videos, split), [split])


def _all(file: JsonIndex, name: str) -> list[Any]:
    return file.read(name, list(range(file.length(name)))) if name in file.names else []


def _category(path: Path, record: Any) -> Category:
    if not isinstance(record, dict) or type(record.get("id")) is not int:
        raise UserError(f"{path}: a category is an object with a whole number as id, not {record!r:.80}")
    return Category(record["id"], str(record.get("name", record["id"])))


def _video(path: Path, record: Any) -> Video:
    if not isinstance(record, dict) or type(record.get("id")) is not int:
        raise UserError(f"{path}: a video is an object with a whole number as id, not {record!r:.80}")
    names = record.get("file_names")
    width, height = record.get("width"), record.get("height")
    if not isinstance(names, list) or not isinstance(width, int) or not isinstance(height, int):
        raise UserError(f"{path}: video {record['id']} needs width, height and file_names")
    return Video(record["id"], width, height, names)


def _track(record: Any, known: set[int]) -> Track | str:
    """The track of an annotation, or what is wrong with it."""
    if not isinstance(record, dict):
        return "is not an object"
    if type(record.get("id")) is not int:
        return f"id {record.get('id')!r:.40} is not a whole number"
    if record.get("category_id") not in known:
        return f"category {record.get('category_id')!r:.40} is not among the categories"
    segmentations, areas = record.get("segmentations"), record.get("areas")
    if not isinstance(segmentations, list):
        return "has no list of segmentations"
    if areas is None:
        areas = []
    if not isinstance(areas, list) or not all(
        area is None or isinstance(area, int | float) for area in areas
    ):
        return "areas is not a list of numbers"
    extra = {"occlusion": record["occlusion"]} if "occlusion" in record else {}
    return Track(
        record["id"], record["category_id"], segmentations, [], areas, bool(record.get("iscrowd", 0)), extra
    )
