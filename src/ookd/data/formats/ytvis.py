"""YouTube-VIS and OVIS annotation JSON, the native form: one record a track, with one entry a frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ookd.data import rle
from ookd.data.formats.format import Format, NamedVideos, Output
from ookd.data.formats.json_file import write_json, write_json_set
from ookd.data.formats.problems import Problem, Report
from ookd.data.formats.records import JsonRecord, bad_area, bad_box, bad_segmentation, records, shown
from ookd.errors import UserError
from ookd.structures import Category, Dataset, Rle, Track, Video

_VIDEO = ("id", "width", "height", "length", "file_names")
_TRACK = ("id", "video_id", "category_id", "iscrowd", "segmentations", "bboxes", "areas")


def read_ytvis(document: dict[str, Any], file: Path, report: Report) -> Dataset:
    """Everything that is right in the document; wrong records are reported and left out."""
    categories, category_extra = read_categories(document, file, report)
    videos = read_videos(document, file, report)
    _read_tracks(document, file, videos, {category.id for category in categories}, report)
    known = ("videos", "annotations", "categories")
    extra = {key: value for key, value in document.items() if key not in known}
    if category_extra:
        extra["categories"] = category_extra
    return Dataset(categories, list(videos.values()), None, file.stem, extra)


def read_categories(
    document: dict[str, Any], file: Path, report: Report
) -> tuple[list[Category], dict[int, dict[str, Any]]]:
    """The classes in the file's order, and other fields (supercategory) by class id."""
    categories: dict[int, Category] = {}
    extra: dict[int, dict[str, Any]] = {}
    names: Counter[str] = Counter()
    for record in records(document, "categories", "category", file, report):
        number, name = record.integer("id"), record.text("name")
        if number is None or name is None or record.repeats(number, categories):
            continue
        names[name] += 1
        if names[name] == 2:
            record.complain(f"the name '{name}' is used twice; names must differ")
        categories[number] = Category(number, name)
        if rest := record.rest("id", "name"):
            extra[number] = rest
    if not categories and isinstance(document.get("categories"), list):
        report(Problem(file, "", "'categories' is empty; at least one class is needed"))
    return list(categories.values()), extra


def read_videos(document: dict[str, Any], file: Path, report: Report) -> dict[int, Video]:
    """The videos by id, still without tracks."""
    videos: dict[int, Video] = {}
    for record in records(document, "videos", "video", file, report):
        number, size, names = record.integer("id"), record.size(), record.array("file_names")
        if number is None or size is None or names is None or record.repeats(number, videos):
            continue
        if not _are_names(record, names):
            continue
        if "length" in record.fields:
            length = record.integer("length")
            if length is not None and length != len(names):
                record.complain(f"'length' is {length}, but 'file_names' has {len(names)} entries")
        videos[number] = Video(number, *size, names, extra=record.rest(*_VIDEO))
    if not videos and isinstance(document.get("videos"), list):
        report(Problem(file, "", "'videos' is empty"))
    return videos


def _are_names(record: JsonRecord, names: list[Any]) -> bool:
    if not names:
        record.complain("'file_names' is empty; a video has at least one frame")
        return False
    wrong = next((frame for frame, name in enumerate(names) if not isinstance(name, str) or not name), None)
    if wrong is not None:
        record.complain(f"'file_names' must hold texts, not {shown(names[wrong])}", wrong)
        return False
    if len(set(names)) < len(names):
        name, times = Counter(names).most_common(1)[0]
        record.complain(f"'file_names' holds '{name}' {times} times; frames must differ")
    return True


def _read_tracks(
    document: dict[str, Any], file: Path, videos: dict[int, Video], categories: set[int], report: Report
) -> None:
    if document.get("annotations") is None:  # as in the validation and test files of the benchmarks
        return
    seen: set[int] = set()
    for record in records(document, "annotations", "annotation", file, report):
        number, video_id, category_id = (record.integer(key) for key in ("id", "video_id", "category_id"))
        if number is None or video_id is None or category_id is None or record.repeats(number, seen):
            continue
        seen.add(number)
        video = videos.get(video_id)
        if video is None:
            record.complain(f"'video_id' {video_id} is not the id of a readable video")
        elif category_id not in categories:
            record.complain(f"'category_id' {category_id} is not in 'categories'")
        elif (track := _read_track(record, number, category_id, video)) is not None:
            video.tracks.append(track)


def _read_track(record: JsonRecord, number: int, category_id: int, video: Video) -> Track | None:
    record.where = f"video {video.id}, {record.where}"
    segmentations = _per_frame(record, "segmentations", video, bad_segmentation)
    if segmentations is None:
        return None
    if "bboxes" in record.fields:
        boxes = _per_frame(record, "bboxes", video, bad_box)
    else:
        boxes = _from_masks(segmentations, video, rle.box_xywh, record)
    if "areas" in record.fields:
        areas = _per_frame(record, "areas", video, bad_area)
    else:
        areas = _from_masks(segmentations, video, rle.area, record)
    if boxes is None or areas is None:
        return None
    extra = record.rest(*_TRACK)
    if isinstance(levels := extra.get("occlusion"), list) and len(levels) != video.length:  # OVIS
        record.complain(f"'occlusion' has {len(levels)} entries, but the video has {video.length} frames")
    return Track(number, category_id, segmentations, boxes, areas, record.flag("iscrowd"), extra)


def _per_frame(
    record: JsonRecord, key: str, video: Video, bad: Callable[[list[Any]], Iterator[tuple[int, str]]]
) -> list[Any] | None:
    values = record.array(key)
    if values is None:
        return None
    if len(values) != video.length:
        record.complain(f"'{key}' has {len(values)} entries, but the video has {video.length} frames")
        return None
    wrong = list(bad(values))
    for frame, what in wrong:
        record.complain(what, frame)
    return None if wrong else values


def _from_masks(
    segmentations: list[Any], video: Video, measure: Callable[[Rle], Any], record: JsonRecord
) -> list[Any] | None:
    """Boxes or areas, where the file has none."""
    values: list[Any] = []
    for frame, segmentation in enumerate(segmentations):
        if segmentation is None:
            values.append(None)
            continue
        try:
            values.append(measure(rle.from_any(segmentation, video.height, video.width)))
        except rle.RleError as error:
            record.complain(f"segmentation: {error}", frame)
            return None
    return values


def with_category_extra(dataset: Dataset) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The file's other fields, and the category records: the reverse of `read_categories`."""
    extra = dict(dataset.extra)
    of_category = extra.pop("categories", {})
    return extra, [
        {"id": category.id, "name": category.name, **of_category.get(category.id, {})}
        for category in dataset.categories
    ]


def to_document(dataset: Dataset) -> dict[str, Any]:
    """The JSON document; reading it again gives an equal data set."""
    extra, categories = with_category_extra(dataset)
    return {
        **extra,
        "categories": categories,
        "videos": [
            {
                **video.extra,
                "id": video.id,
                "width": video.width,
                "height": video.height,
                "length": video.length,
                "file_names": video.file_names,
            }
            for video in dataset.videos
        ],
        "annotations": [
            {
                **track.extra,
                "id": track.id,
                "video_id": video.id,
                "category_id": track.category_id,
                "iscrowd": int(track.iscrowd),
                "segmentations": track.segmentations,
                "bboxes": track.boxes_xywh,
                "areas": track.areas,
            }
            for video in dataset.videos
            for track in video.tracks
        ],
    }


def save_ytvis(dataset: Dataset, path: Path, overwrite: bool = False) -> None:
    """Write the annotations; masks are written as they were read."""
    if path.exists() and not overwrite:
        raise UserError(f"{path}: exists; give another name or allow overwriting")
    write_json(path, to_document(dataset))


def write_ytvis(dataset: Dataset, videos: NamedVideos, output: Output) -> list[str]:
    write_json_set(dataset, videos, output, to_document)
    return []


YTVIS = Format("ytvis", "a YTVIS or OVIS .json", write=write_ytvis, marker="dataset.yaml")
