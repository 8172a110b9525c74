"""YOLO segmentation: `labels/**/<image>.txt` next to `images/**`, one object per line: class x1 y1 x2 y2 ...

Coordinates are fractions of the image's width and height. A line holds one ring of points. So a mask with
several parts or holes is written as rings joined by bridges, which are walked there and back and enclose
nothing. Every image is a video of one frame, because the format has no identities.
"""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ookd import untrusted
from ookd.data import rle
from ookd.data.formats.format import (
    AnnotationSource,
    Format,
    NamedVideos,
    Output,
    crowds_left_out,
    split_of,
)
from ookd.data.formats.problems import Problem, Report
from ookd.data.formats.rings import ring_of
from ookd.data.frames import IMAGE_SUFFIXES, copy_frames, frame_stems, image_size
from ookd.errors import UserError
from ookd.structures import Category, Dataset, Track, Video


def labels_of(images: Path) -> Path | None:
    """The labels of a folder of images: the same path with its last `images` replaced by `labels`."""
    parts = list(images.parts)
    if "images" not in parts:
        return None
    parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return folder if (folder := Path(*parts)).is_dir() else None


def find_yolo(images: Path) -> list[AnnotationSource]:
    """A folder of images with labels. Only a dataset.yaml can name their classes."""
    return [AnnotationSource(YOLO, images, split_of(images.name))] if labels_of(images) else []


def read_yolo(source: AnnotationSource, report: Report) -> Dataset | None:
    images, names = source.path, source.names
    if not names:
        what = "YOLO labels are numbers; 'names' in a dataset.yaml must name the classes"
        report(Problem(images, "", what))
        return None
    labels = labels_of(images) or images
    videos: list[Video] = []
    total = 0
    for file in sorted(path for path in images.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES):
        try:
            width, height = image_size(file)
        except UserError as error:
            report(Problem(file, "", str(error).removeprefix(f"{file}: ")))
            continue
        inside = file.relative_to(images)
        video = Video(len(videos) + 1, width, height, [inside.as_posix()])
        for label, polygon in _read_labels((labels / inside).with_suffix(".txt"), len(names), report):
            points = np.array(polygon).reshape(-1, 2) * (width, height)
            segmentation = [
                points.round(4).ravel().tolist()
            ]  # a rounded share is no longer a tenth of a pixel
            try:
                mask = rle.from_any(segmentation, height, width)
            except rle.RleError as error:
                report(Problem((labels / inside).with_suffix(".txt"), "", str(error)))
                continue
            total += 1
            video.tracks.append(
                Track(total, label + 1, [segmentation], [rle.box_xywh(mask)], [rle.area(mask)])
            )
        videos.append(video)
    if not videos:
        report(Problem(images, "", "holds no images"))
    return Dataset([Category(*item) for item in enumerate(names, 1)], videos, images, images.name)


def _read_labels(file: Path, classes: int, report: Report) -> list[tuple[int, list[float]]]:
    """(class, polygon) of each line; a missing file means an image without objects."""
    if not file.exists():
        return []
    found: list[tuple[int, list[float]]] = []
    for line, text in enumerate(untrusted.read_lines(file), 1):
        words = text.split()
        if not words:
            continue
        try:
            label, polygon = int(words[0]), [float(word) for word in words[1:]]
            if "_" in text:  # which Python allows in numbers
                raise ValueError
        except ValueError:
            report(Problem(file, f"line {line}", "must be a class number followed by numbers"))
            continue
        if not 0 <= label < classes:
            report(Problem(file, f"line {line}", f"class {label} is not one of the {classes} in 'names'"))
        elif len(polygon) == 4:
            report(
                Problem(file, f"line {line}", "is a box; segmentation needs a polygon x1 y1 x2 y2 x3 y3 ...")
            )
        elif len(polygon) < 6 or len(polygon) % 2:
            report(
                Problem(
                    file, f"line {line}", f"has {len(polygon)} coordinates; a polygon has pairs, 3 or more"
                )
            )
        elif not all(isfinite(value) and 0 <= value <= 1 for value in polygon):
            report(
                Problem(file, f"line {line}", "coordinates must be fractions of the image size, from 0 to 1")
            )
        else:
            found.append((label, polygon))
    return found


def write_yolo(dataset: Dataset, videos: NamedVideos, output: Output) -> list[str]:
    folder = output.folder
    label_of = dataset.label_of()
    lost: list[str] = []
    if any(video.length > 1 for video in dataset.videos):
        lost.append("which masks are the same object: YOLO labels are single images")
    lost += crowds_left_out(dataset)
    for name, video in videos:
        inside = "" if video.length == 1 else name
        stems = [name] if video.length == 1 else frame_stems(video)
        (folder / "labels" / inside).mkdir(parents=True, exist_ok=True)
        for frame, stem in enumerate(stems):
            lines = [
                " ".join([str(label_of[track.category_id]), *(f"{value:.8f}" for value in ring)])
                for track in video.tracks
                if track.segmentations[frame] is not None and not track.iscrowd
                for ring in _relative(video, track, frame)
            ]
            (folder / "labels" / inside / f"{stem}.txt").write_text("".join(f"{line}\n" for line in lines))
        if output.frames:
            copy_frames(dataset, video, folder / "images" / inside, stems)
    names: dict[str, Any] = {"names": {label: item.name for label, item in enumerate(dataset.categories)}}
    text = yaml.safe_dump({"path": ".", "train": "images", "val": "images", **names}, sort_keys=False)
    (folder / "data.yaml").write_text(text, encoding="utf-8")
    return lost


def _relative(video: Video, track: Track, frame: int) -> list[list[float]]:
    """At most one ring of relative coordinates."""
    points = ring_of(video, track, frame)
    share = (points / [video.width, video.height]).clip(0, 1)
    return [share.ravel().tolist()] if len(points) else []


YOLO = Format("yolo", "a YOLO-seg folder of images", find_yolo, read_yolo, write_yolo, "data.yaml")
