"""MOTS folders as KITTI has them: `instances/<video>/<frame>.png`, 16 bits, class * 1000 + object.

Images are searched in `images/`, `image_02/` or `training/image_02/`. Class 1 is car and 2 pedestrian, unless
a `classes.txt` (`<number> <name>` lines) says otherwise. The value 10000 marks regions to ignore; they are
kept with the video and written back, but are not tracks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from ookd import untrusted
from ookd.data import rle
from ookd.data.formats.format import AnnotationSource, Format, NamedVideos, Output
from ookd.data.formats.label_images import frame_files, paint_labels, read_sequence, tracks_of, values_for
from ookd.data.formats.problems import Problem, Report
from ookd.data.frames import copy_frames, frame_stems
from ookd.errors import UserError
from ookd.structures import Category, Dataset, Rle, Track, Video

_IMAGES = ("images", "image_02", "training/image_02")
_CLASSES = {1: "car", 2: "pedestrian"}
_OBJECTS = 1000  # values of each class
_IGNORE = 10_000
_MOST_CLASSES = 64  # 65 * 1000 and more do not fit 16 bits


def find_mots(folder: Path) -> list[AnnotationSource]:
    return [AnnotationSource(MOTS, folder)] if any(folder.glob("instances/*/*.png")) else []


def read_mots(source: AnnotationSource, report: Report) -> Dataset:
    folder = source.path
    names = _read_classes(folder / "classes.txt", report)
    root = next((folder / images for images in _IMAGES if (folder / images).is_dir()), folder / _IMAGES[0])
    videos: list[Video] = []
    sequences = sorted(item for item in (folder / "instances").iterdir() if item.is_dir())
    for number, sequence in enumerate(sequences, 1):
        (width, height), frames, pictures = read_sequence(sequence, report)
        if not width:
            continue
        video = Video(number, width, height, frame_files(pictures, root), extra={"name": sequence.name})
        ignored = [frame.pop(_IGNORE, None) for frame in frames]
        if any(ignored):
            video.extra["ignore"] = [None if shape is None else shape.mask for shape in ignored]
        class_of = {value: value // _OBJECTS for frame in frames for value in frame}
        for unnamed in set(class_of.values()) - names.keys():
            names[unnamed] = f"class_{unnamed}"
        video.tracks = tracks_of(frames, class_of, 1 + sum(len(video.tracks) for video in videos))
        videos.append(video)
    if not videos:
        report(Problem(folder, "", "holds no video"))
    return Dataset([Category(*item) for item in sorted(names.items())], videos, root, folder.name)


def _read_classes(file: Path, report: Report) -> dict[int, str]:
    if not file.exists():
        return dict(_CLASSES)
    names: dict[int, str] = {}
    for line, text in enumerate(untrusted.read_lines(file), 1):
        digits, _, name = text.strip().partition(" ")
        number = untrusted.whole_number(digits)
        if number is not None and name:
            names[number] = name.strip()
        elif text.strip():
            report(Problem(file, f"line {line}", "must be a number and a name, as in '1 car'"))
    return names


def _ignored(region: Any, video: Video, name: str) -> Rle:
    try:
        return rle.from_any(region, video.height, video.width)
    except rle.RleError as error:
        raise UserError(f"video {name}: ignore: {error}") from None


def write_mots(dataset: Dataset, videos: NamedVideos, output: Output) -> list[str]:
    folder = output.folder
    class_of = _classes_for(dataset)
    lost: list[str] = []
    for name, video in videos:
        ignored = video.extra.get("ignore") or [None] * video.length
        pictures = paint_labels(video, name, _values(video, name, class_of), lost)
        for (stem, labels), region in zip(pictures, ignored, strict=True):
            if region is not None:
                region = rle.decode(_ignored(region, video, name))
                labels[region & (labels == 0)] = _IGNORE
            path = folder / "instances" / name / f"{stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(labels).save(path)
        if output.frames:
            copy_frames(dataset, video, folder / "images" / name, frame_stems(video))
    lines = [f"{class_of[category.id]} {category.name}\n" for category in dataset.categories]
    (folder / "classes.txt").write_text("".join(lines), encoding="utf-8")
    return lost


def _classes_for(dataset: Dataset) -> dict[int, int]:
    """Category id -> class number: the id if all fit, else consecutive numbers without the ignored one."""
    ids = [category.id for category in dataset.categories]
    free = [number for number in range(1, _MOST_CLASSES + 1) if number * _OBJECTS != _IGNORE]
    if set(ids) <= set(free):
        return {number: number for number in ids}
    if len(ids) > len(free):
        raise UserError(f"{len(ids)} classes; a MOTS folder holds {len(free)}")
    return dict(zip(ids, free, strict=False))


def _values(video: Video, name: str, class_of: dict[int, int]) -> dict[int, int]:
    by_class: dict[int, list[Track]] = {}
    for track in video.tracks:
        by_class.setdefault(class_of[track.category_id], []).append(track)
    values: dict[int, int] = {}
    for number, tracks in by_class.items():
        if len(tracks) > _OBJECTS:
            raise UserError(f"video {name}: {len(tracks)} objects of one class; MOTS holds {_OBJECTS}")
        first = number * _OBJECTS
        values.update(values_for(tracks, range(first, first + _OBJECTS)))
    return values


MOTS = Format("mots", "a MOTS folder", find_mots, read_mots, write_mots, "classes.txt")
