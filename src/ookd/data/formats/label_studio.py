"""Label Studio's JSON export of image tasks with polygons, one task per frame.

Label Studio has no masks over time: its video tasks have rectangles. So a video is a series of image tasks
that name it in their data (`video`, `frame`), and a region names its track in its meta text.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import orjson

from ookd import untrusted
from ookd.data.formats.collecting import Collector
from ookd.data.formats.format import (
    AnnotationSource,
    Format,
    NamedVideos,
    Output,
    crowds_left_out,
    frame_files,
    split_of,
)
from ookd.data.formats.json_annotations import find_frames
from ookd.data.formats.problems import Problem, Report
from ookd.data.formats.records import is_number, shown
from ookd.data.formats.rings import ring_of
from ookd.files import write_file
from ookd.structures import Dataset

FILE = "label_studio.json"
_TRACK = re.compile(r"track (.{1,100})")
_HEAD = 1 << 14  # bytes in which the first task begins


def find_label_studio(path: Path) -> list[AnnotationSource]:
    files = [path] if path.is_file() else sorted(path.glob("*.json")) if path.is_dir() else []
    return [AnnotationSource(LABEL_STUDIO, file, split_of(file.stem)) for file in files if _is_export(file)]


def _is_export(file: Path) -> bool:
    """A list of tasks; benchmark results are a list too, but have no `annotations`."""
    if file.suffix.lower() != ".json" or not untrusted.is_file(file):
        return False
    with file.open("rb") as opened:
        head = opened.read(_HEAD)
    return head.lstrip().startswith(b"[") and b'"annotations"' in head


def read_label_studio(source: AnnotationSource, report: Report) -> Dataset | None:
    file = source.path
    try:
        tasks = orjson.loads(untrusted.read_bytes(file))
    except orjson.JSONDecodeError as error:
        report(Problem(file, f"line {error.lineno}", f"is not valid JSON: {error.msg}"))
        return None
    collector = Collector(file, report)
    by_video: dict[str, list[tuple[int, str, dict[str, Any]]]] = {}
    for place, task in enumerate(tasks if isinstance(tasks, list) else []):
        data = task.get("data") if isinstance(task, dict) else None
        image = data.get("image") if isinstance(data, dict) else None
        if not isinstance(data, dict) or not isinstance(image, str) or not image:
            what = "its data have no 'image'; Label Studio's video tasks hold rectangles, not masks"
            report(Problem(file, f"task {place}", what))
            continue
        try:
            name = _local(image)
        except ValueError as error:
            report(Problem(file, f"task {place}", f"its image is not an address: {error}"))
            continue
        video, frame = data.get("video"), data.get("frame")
        group = video if isinstance(video, str) and video else PurePosixPath(name).parent.name or name
        by_video.setdefault(group, []).append((frame if type(frame) is int else place, name, task))
    for group, frames in by_video.items():
        _read_video(group, sorted(frames, key=lambda one: one[0]), collector)
    first = collector.videos[0].file_names[0] if collector.videos else ""
    return collector.dataset(find_frames(file, first))


def _local(image: str) -> str:
    """The path in an image's address: an upload, a local file (`?d=`), or a plain path."""
    parts = urlsplit(image)
    local = re.search(r"(?:^|&)d=([^&]+)", parts.query)
    return unquote(local[1] if local else parts.path).removeprefix("/data/").lstrip("/")


def _read_video(group: str, frames: list[tuple[int, str, dict[str, Any]]], collector: Collector) -> None:
    regions = [list(_regions(task)) for _, _, task in frames]
    sizes = {_size(region) for of_frame in regions for region in of_frame} - {None}
    if len(sizes) != 1:
        what = "no region gives the size of the frames" if not sizes else "its frames differ in size"
        return collector.report(Problem(collector.file, f"video {group}", what))
    ((width, height),) = (size for size in sizes if size is not None)
    names = [name for _, name, _ in frames]
    if len(set(names)) < len(names):
        return collector.report(Problem(collector.file, f"video {group}", "two tasks have the same image"))
    if (video := collector.video(group, width, height, len(names), names)) is None:
        return
    for frame, of_frame in enumerate(regions):
        for number, region in enumerate(of_frame):
            points, name = _polygon(region), _class_of(region)
            if points is None or name is None:
                kind = shown(region.get("type"))
                what = f"a region of type {kind} is no polygon with a class; masks are read from polygons"
                collector.report(Problem(collector.file, f"video {group}, frame {frame}", what))
                continue
            mask = [(np.array(points) * (width / 100, height / 100)).ravel().tolist()]
            key = _track_of(region) or f"frame {frame}, region {number}"
            collector.add(video, key, name, frame, mask)


def _regions(task: dict[str, Any]) -> list[dict[str, Any]]:
    """The regions of the first annotation that was not cancelled."""
    annotations = task.get("annotations")
    for annotation in annotations if isinstance(annotations, list) else []:
        if isinstance(annotation, dict) and not annotation.get("was_cancelled"):
            result = annotation.get("result")
            return [one for one in result if isinstance(one, dict)] if isinstance(result, list) else []
    return []


def _size(region: dict[str, Any]) -> tuple[int, int] | None:
    width, height = region.get("original_width"), region.get("original_height")
    return (width, height) if type(width) is int and type(height) is int else None


def _polygon(region: dict[str, Any]) -> list[list[float]] | None:
    """Points in per cent of the frame."""
    value = region.get("value")
    points = value.get("points") if isinstance(value, dict) else None
    if not isinstance(points, list) or not points:
        return None
    sound = all(isinstance(p, list) and len(p) == 2 and all(is_number(v) for v in p) for p in points)
    return points if sound else None


def _class_of(region: dict[str, Any]) -> str | None:
    value = region.get("value")
    labels = value.get("polygonlabels") or value.get("labels") if isinstance(value, dict) else None
    return labels[0] if isinstance(labels, list) and labels and isinstance(labels[0], str) else None


def _track_of(region: dict[str, Any]) -> str | None:
    meta = region.get("meta")
    texts = meta.get("text") if isinstance(meta, dict) else None
    for text in texts if isinstance(texts, list) else [texts]:
        if isinstance(text, str) and (match := _TRACK.fullmatch(text.strip())):
            return match[1]
    return None


def write_label_studio(dataset: Dataset, videos: NamedVideos, output: Output) -> list[str]:
    names = {category.id: category.name for category in dataset.categories}
    tasks = []
    for name, video in videos:
        files = frame_files(dataset, name, video, output)
        size = {"original_width": video.width, "original_height": video.height, "image_rotation": 0}
        for frame, file in enumerate(files):
            regions = []
            for track in video.tracks:
                if track.segmentations[frame] is None or track.iscrowd:
                    continue
                points = ring_of(video, track, frame)
                share = np.round(points * (100 / video.width, 100 / video.height), 6).tolist()
                value = {"points": share, "closed": True, "polygonlabels": [names[track.category_id]]}
                region: dict[str, Any] = {"id": f"{track.id}-{frame}", "type": "polygonlabels", **size}
                region |= {"from_name": "label", "to_name": "image", "value": value}
                region["meta"] = {"text": [f"track {track.id}"]}
                regions.append(region)
            data = {"image": file, "video": name, "frame": frame}
            tasks.append({"data": data, "annotations": [{"result": regions}]})
    write_file(output.folder / FILE, orjson.dumps(tasks))
    return crowds_left_out(dataset)


LABEL_STUDIO = Format(
    "label-studio",
    "a Label Studio .json export",
    find_label_studio,
    read_label_studio,
    write_label_studio,
    FILE,
)
