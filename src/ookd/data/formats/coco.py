"""COCO JSON: images as videos of one frame, or, where annotations carry track ids, frames as videos.

Plain COCO has no videos. Labelling tools and CocoVID add a track id to annotations (`track_id`,
`instance_id`, or `attributes.track_id` as CVAT writes it); then images are grouped into videos by `video_id`,
else by folder, and ordered by `frame_id`, else by file name with numbers compared as numbers.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ookd import limits
from ookd.data import rle
from ookd.data.formats.format import Format, NamedVideos, Output
from ookd.data.formats.json_file import write_json_set
from ookd.data.formats.problems import Problem, Report
from ookd.data.formats.records import JsonRecord, bad_area, bad_box, records, shown
from ookd.data.formats.ytvis import read_categories, with_category_extra
from ookd.data.frames import video_name
from ookd.structures import Dataset, Track, Video

_MOST_DIGITS = 300  # of a number in a file name
_IMAGE = ("id", "width", "height", "file_name")
_ANNOTATION = ("id", "image_id", "category_id", "iscrowd", "segmentation", "bbox", "area")


@dataclass(slots=True)
class _Image:
    record: JsonRecord
    id: int
    width: int
    height: int
    file_name: str

    def order(self) -> tuple[int, list[str | int]]:
        frame = self.record.fields.get("frame_id", self.record.fields.get("frame_index"))
        parts = re.split(r"(\d+)", self.file_name)
        return (
            frame if type(frame) is int else -1,
            [int(part[:_MOST_DIGITS]) if part.isdecimal() else part for part in parts],
        )


@dataclass(slots=True)
class _Mask:
    """One annotation: an object in one image."""

    record: JsonRecord
    image: _Image
    track: Track  # of this one frame
    of_track: int | str | None  # the track id in the file


def read_coco(document: dict[str, Any], file: Path, report: Report) -> Dataset:
    categories, category_extra = read_categories(document, file, report)
    images = _read_images(document, file, report)
    masks = _read_masks(document, file, images, {category.id for category in categories}, report)
    known = ("images", "annotations", "categories", "videos")
    extra = {key: value for key, value in document.items() if key not in known}
    if category_extra:
        extra["categories"] = category_extra
    tracked = any(mask.of_track is not None for mask in masks)
    if tracked:
        videos = _as_videos(document, file, images, masks, report)
    else:
        videos = _as_single_frames(images, masks)
    return Dataset(categories, videos, None, file.stem, extra)


def _read_images(document: dict[str, Any], file: Path, report: Report) -> dict[int, _Image]:
    images: dict[int, _Image] = {}
    names: set[str] = set()
    for record in records(document, "images", "image", file, report):
        number, size, name = record.integer("id"), record.size(), record.text("file_name")
        if number is None or size is None or name is None or record.repeats(number, images):
            continue
        if name in names:
            record.complain(f"'file_name' '{name}' is used twice; images must differ")
        names.add(name)
        images[number] = _Image(record, number, *size, name)
    if not images and isinstance(document.get("images"), list):
        report(Problem(file, "", "'images' is empty"))
    return images


def _read_masks(
    document: dict[str, Any], file: Path, images: dict[int, _Image], categories: set[int], report: Report
) -> list[_Mask]:
    if document.get("annotations") is None:
        return []
    masks: list[_Mask] = []
    seen: set[int] = set()
    for record in records(document, "annotations", "annotation", file, report):
        number, image_id, category_id = (record.integer(key) for key in ("id", "image_id", "category_id"))
        if number is None or image_id is None or category_id is None or record.repeats(number, seen):
            continue
        seen.add(number)
        image = images.get(image_id)
        if image is None:
            record.complain(f"'image_id' {image_id} is not the id of a readable image")
        elif category_id not in categories:
            record.complain(f"'category_id' {category_id} is not in 'categories'")
        elif (track := _read_mask(record, number, category_id, image)) is not None:
            masks.append(_Mask(record, image, track, _track_id(record)))
    return masks


def _read_mask(record: JsonRecord, number: int, category_id: int, image: _Image) -> Track | None:
    record.where = f"image {image.id}, {record.where}"
    segmentation = record.fields.get("segmentation")
    if not isinstance(segmentation, dict | list) or not segmentation:
        given = shown(segmentation, "segmentation" in record.fields)
        record.complain(f"'segmentation' must be an RLE or a list of polygons, not {given}")
        return None
    box, area = record.fields.get("bbox"), record.fields.get("area")
    if wrong := [what for _, what in (*bad_box([box]), *bad_area([area]))]:
        for what in wrong:
            record.complain(what)
        return None
    if box is None or area is None:
        try:
            mask = rle.from_any(segmentation, image.height, image.width)
        except rle.RleError as error:
            record.complain(f"segmentation: {error}")
            return None
        box = rle.box_xywh(mask) if box is None else box
        area = rle.area(mask) if area is None else area
    rest = record.rest(*_ANNOTATION)
    return Track(number, category_id, [segmentation], [box], [area], record.flag("iscrowd"), rest)


def _track_id(record: JsonRecord) -> int | str | None:
    attributes = record.fields.get("attributes")
    for fields in (record.fields, attributes if isinstance(attributes, dict) else {}):
        for key in ("track_id", "instance_id"):
            if type(value := fields.get(key)) in (int, str):
                return value
    return None


def _as_single_frames(images: dict[int, _Image], masks: list[_Mask]) -> list[Video]:
    videos = {
        image.id: Video(
            image.id, image.width, image.height, [image.file_name], extra=image.record.rest(*_IMAGE)
        )
        for image in images.values()
    }
    for mask in masks:
        videos[mask.image.id].tracks.append(mask.track)
    return list(videos.values())


def _as_videos(
    document: dict[str, Any], file: Path, images: dict[int, _Image], masks: list[_Mask], report: Report
) -> list[Video]:
    groups: dict[int | str, list[_Image]] = defaultdict(list)
    for image in images.values():
        groups[_group_of(image)].append(image)
    named: dict[int | str, str | None] = {}
    if "videos" in document:
        for record in records(document, "videos", "video", file, report):
            named[record.integer("id") or 0] = record.text("name")
    numbered = all(type(group) is int for group in groups)
    videos: list[Video] = []
    place: dict[int, tuple[Video, int]] = {}  # image id -> its video and frame
    for order, (group, members) in enumerate(sorted(groups.items(), key=lambda item: str(item[0])), 1):
        members.sort(key=_Image.order)
        first = members[0]
        video = Video(
            int(group) if numbered else order,
            first.width,
            first.height,
            [image.file_name for image in members],
        )
        name = named.get(group) if numbered else PurePosixPath(str(group)).name
        if isinstance(name, str) and name:
            video.extra["name"] = name
        for frame, image in enumerate(members):
            place[image.id] = (video, frame)
            if (image.width, image.height) != (first.width, first.height):
                size = f"{image.width} x {image.height}"
                image.record.complain(f"is {size}, but its video starts with {first.width} x {first.height}")
        videos.append(video)
    _gather_tracks(masks, place)
    return sorted(videos, key=lambda video: video.id)


def _group_of(image: _Image) -> int | str:
    number = image.record.fields.get("video_id")
    return number if type(number) is int else str(PurePosixPath(image.file_name).parent)


def _gather_tracks(masks: list[_Mask], place: dict[int, tuple[Video, int]]) -> None:
    """Join annotations with one track id in one video into one track; those without an id stay alone.

    The file's ids are kept if no two videos share one, else tracks get consecutive ids.
    """
    tracks: dict[tuple[int, str, int | str], Track] = {}
    for mask in masks:
        video, frame = place[mask.image.id]
        key: tuple[int, str, int | str] = (video.id, "alone", mask.track.id)
        if mask.of_track is not None:
            key = (video.id, "together", mask.of_track)
        if key not in tracks:
            fault = limits.TRACK_FRAMES.exceeded((len(video.tracks) + 1) * video.length)
            if fault is not None:
                mask.record.complain(f"its video has {fault}")
                continue
            none: list[None] = [None] * video.length
            first = mask.track
            tracks[key] = Track(0, first.category_id, [*none], [*none], [*none], first.iscrowd)
            video.tracks.append(tracks[key])
        track = tracks[key]
        if track.category_id != mask.track.category_id:
            mask.record.complain(f"track {mask.of_track} changes its category")
        elif track.segmentations[frame] is not None:
            mask.record.complain(f"track {mask.of_track} has two masks in one image")
        else:
            track.segmentations[frame] = mask.track.segmentations[0]
            track.boxes_xywh[frame] = mask.track.boxes_xywh[0]
            track.areas[frame] = mask.track.areas[0]
    given = [number for _, kind, number in tracks if kind == "together" and type(number) is int]
    numbers = given if len(set(given)) == len(tracks) else range(1, len(tracks) + 1)
    for track, number in zip(tracks.values(), numbers, strict=True):
        track.id = number


def to_document(dataset: Dataset) -> dict[str, Any]:
    """Single frames become plain COCO; videos become frames with `video_id`, `frame_id` and `track_id`."""
    still = all(video.length == 1 for video in dataset.videos)
    extra, categories = with_category_extra(dataset)
    document: dict[str, Any] = {**extra, "images": [], "annotations": [], "categories": categories}
    if not still:
        document["videos"] = [{"id": video.id, "name": video_name(video)} for video in dataset.videos]
    images, annotations = document["images"], document["annotations"]
    for video in dataset.videos:
        size = {"width": video.width, "height": video.height}
        for frame, file_name in enumerate(video.file_names):
            image_id = video.id if still else len(images) + 1
            of_video = video.extra if still else {"video_id": video.id, "frame_id": frame}
            images.append({**of_video, "id": image_id, "file_name": file_name, **size})
            for track in video.tracks:
                if track.segmentations[frame] is None:
                    continue
                of_track = track.extra if still else {"track_id": track.id}
                annotations.append(
                    {
                        **of_track,
                        "id": track.id if still else len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": track.category_id,
                        "iscrowd": int(track.iscrowd),
                        "segmentation": track.segmentations[frame],
                        "bbox": track.boxes_xywh[frame],
                        "area": track.areas[frame],
                    }
                )
    return document


def write_coco(dataset: Dataset, videos: NamedVideos, output: Output) -> list[str]:
    write_json_set(dataset, videos, output, to_document)
    fields = sorted({key for video in dataset.videos for track in video.tracks for key in track.extra})
    if fields and any(video.length > 1 for video in dataset.videos):
        return [f"other fields of tracks: {', '.join(fields)}"]
    return []


COCO = Format("coco", "a COCO .json", write=write_coco, marker="dataset.yaml")
