"""Ground truth for evaluation: one or several annotation files, or a data set in memory.

Files in the native form are read track by track as their videos come up; anything else goes through
`ookd.data.formats`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ookd.errors import UserError
from ookd.evaluation.records import Records, scan
from ookd.structures import Category, Dataset, Track, Video


@dataclass(slots=True)
class Source:
    """One split: its file, if it is read track by track, and which of its records belong to which video."""

    name: str
    records: Records | None = None
    of_video: dict[int | None, list[int]] = field(default_factory=dict)


@dataclass(slots=True)
class Truth:
    """Classes, videos (sorted by id; without tracks where these are read from a file), and the splits."""

    categories: list[Category]
    videos: dict[int, Video]
    split: dict[int, Source]  # video id -> where it comes from
    sources: list[Source]
    root: Path | None = None  # where frames are found

    def tracks(self, video: Video) -> tuple[list[Track], list[str]]:
        """The tracks of a video and what is wrong with its records."""
        source = self.split[video.id]
        if source.records is None:
            return list(video.tracks), []
        places = source.of_video.get(video.id, [])
        tracks, faults = [], []
        known = {category.id for category in self.categories}
        for i, record in zip(places, source.records.read("annotations", places), strict=True):
            track = _track(record, known)
            if isinstance(track, str):
                faults.append(f"{source.records.path}: annotation {i} of video {video.id}: {track}")
            else:
                tracks.append(track)
        return tracks, faults


def load_truth(given: str | Path | Dataset | Sequence[str | Path], whole: bool = False) -> Truth:
    """Read classes and videos; tracks stay in the file until their video comes up."""
    parts = [given] if isinstance(given, str | Path | Dataset) else list(given)
    if not parts:
        raise UserError("no ground truth given")
    loaded = [_one(part, whole) for part in parts]
    first = loaded[0]
    for other in loaded[1:]:
        if other.categories != first.categories:
            names = f"{first.sources[0].name} and {other.sources[0].name}"
            raise UserError(f"{names} differ in their categories; splits of one benchmark share them")
        for video in other.videos:
            if video in first.videos:
                raise UserError(
                    f"video {video} is in both {first.split[video].name} and {other.sources[0].name}"
                )
        first.videos |= other.videos
        first.split |= other.split
        first.sources += other.sources
    first.videos = dict(sorted(first.videos.items()))
    return first


def _one(part: str | Path | Dataset, whole: bool) -> Truth:
    if isinstance(part, Dataset):
        return _in_memory(part)
    path = Path(part)
    if path.is_file() and path.suffix == ".json":
        records = scan(path, whole)
        if {"videos", "annotations"} <= set(records.names):
            return _from_file(path, records)
        if "videos" in records.names:
            raise UserError(f"{path}: has videos but no annotations to compare with")
    from ookd.data import formats

    return _in_memory(formats.load(path))


def _in_memory(dataset: Dataset) -> Truth:
    source = Source(dataset.name or "truth")
    videos = _by_id(source.name, dataset.videos)
    known = {category.id for category in dataset.categories}
    for video in dataset.videos:
        for track in video.tracks:
            if track.category_id not in known:
                where = f"{source.name}: track {track.id} of video {video.id}"
                raise UserError(f"{where}: category {track.category_id} is not among the categories")
    return Truth(dataset.categories, videos, dict.fromkeys(videos, source), [source], dataset.root)


def _by_id(where: str, videos: list[Video]) -> dict[int, Video]:
    found = {video.id: video for video in videos}
    if len(found) < len(videos):
        twice = next(id for id, count in Counter(video.id for video in videos).items() if count > 1)
        raise UserError(f"{where}: two videos have the id {twice}")
    return found


def _from_file(path: Path, records: Records) -> Truth:
    source = Source(path.stem, records, records.by_video("annotations"))
    categories = [_category(path, record) for record in _all(records, "categories")]
    videos = _by_id(str(path), [_video(path, record) for record in _all(records, "videos")])
    stray = [video for video in source.of_video if video not in videos]
    if stray:
        i = source.of_video[stray[0]][0]
        raise UserError(f"{path}: annotation {i} names video {stray[0]}, which is not among the videos")
    if not categories:
        raise UserError(f"{path}: has no categories")
    return Truth(categories, videos, dict.fromkeys(videos, source), [source])


def _all(records: Records, name: str) -> list[Any]:
    return records.read(name, list(range(records.length(name)))) if name in records.names else []


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
    """The track of a record, or what is wrong with it."""
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
