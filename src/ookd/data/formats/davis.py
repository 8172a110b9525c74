"""DAVIS and YouTube-VOS folders: `JPEGImages/<video>/<frame>.jpg` and `Annotations/<video>/<frame>.png`.

The palette index of a pixel is its object. DAVIS has no classes; YouTube-VOS's `meta.json` names a category
for each object, and is written to preserve classes. Frames may lie in a resolution folder (`480p`).
DAVIS-2016 marks its only object with 255; elsewhere 255 means "unlabelled" and is left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ookd import untrusted
from ookd.data.formats.format import AnnotationSource, Format, NamedVideos, Output, split_of
from ookd.data.formats.json_file import read_object, write_json
from ookd.data.formats.label_images import (
    Shape,
    frame_files,
    paint_labels,
    read_sequence,
    tracks_of,
    values_for,
)
from ookd.data.formats.problems import Problem, Report
from ookd.data.frames import copy_frames, frame_stems
from ookd.errors import UserError
from ookd.structures import Category, Dataset, Video

_RESOLUTIONS = ("480p", "Full-Resolution", "1080p")
_YEARS = ("2017", "2016", "480p", "")  # of ImageSets, the newest first
_UNLABELLED = 255
_NO_CLASS = "object"


def find_davis(folder: Path) -> list[AnnotationSource]:
    if not _is_davis(folder):
        return []
    names = davis_splits(folder) or [""]
    return [AnnotationSource(DAVIS, folder, split_of(name) or name, name) for name in names]


def _is_davis(folder: Path) -> bool:
    return (folder / "Annotations").is_dir() and any(_resolved(folder / "Annotations").glob("*/*.png"))


def davis_splits(folder: Path) -> dict[str, list[str]]:
    """Split -> video names, from ImageSets; empty if there is none."""
    for year in _YEARS:
        lists = sorted((folder / "ImageSets" / year).glob("*.txt"))
        splits = {file.stem: _names_in(file) for file in lists if file.stem != "trainval"}
        if splits:
            return splits
    return {}


def _names_in(file: Path) -> list[str]:
    """Each line holds a name or, in DAVIS-2016, an image and its annotation."""
    names: dict[str, None] = {}
    for line in untrusted.read_lines(file):
        if words := line.split():
            names[Path(words[0]).parent.name if "/" in words[0] else words[0]] = None
    return list(names)


def read_davis(source: AnnotationSource, report: Report) -> Dataset:
    folder = source.path
    annotations, root = _resolved(folder / "Annotations"), _resolved(folder / "JPEGImages")
    meta, names = _read_meta(folder / "meta.json", report)
    used = {name for objects in meta.values() for name in objects.values()}
    known = list(dict.fromkeys([*names, *sorted(used)])) or [_NO_CLASS]
    categories = [Category(number, name) for number, name in enumerate(known, 1)]
    folders = davis_splits(folder).get(source.subset) or sorted(
        item.name for item in annotations.iterdir() if item.is_dir()
    )
    videos: list[Video] = []
    for number, name in enumerate(folders, 1):
        (width, height), frames, pictures = read_sequence(annotations / name, report)
        if not width:
            continue
        category_of = {
            value: known.index(category) + 1
            for value, category in _categories_of(meta, name, frames, folder / "meta.json", report).items()
        }
        video = Video(number, width, height, frame_files(pictures, root), extra={"name": name})
        video.tracks = tracks_of(frames, category_of, 1 + sum(len(video.tracks) for video in videos))
        videos.append(video)
    if not videos:
        report(Problem(folder, "", "holds no video"))
    return Dataset(categories, videos, root, folder.name)


def _categories_of(
    meta: dict[str, dict[int, str]], name: str, frames: list[dict[int, Shape]], file: Path, report: Report
) -> dict[int, str]:
    """Object -> category, for the objects of a video that are labelled."""
    values = {value for frame in frames for value in frame}
    if values != {_UNLABELLED}:
        values.discard(_UNLABELLED)
    if not meta:
        return dict.fromkeys(values, _NO_CLASS)
    objects = meta.get(name, {})
    for value in sorted(values - objects.keys()):
        report(Problem(file, f"video {name}", f"names no category for object {value}"))
    return {value: category for value, category in objects.items() if value in values}


def _read_meta(file: Path, report: Report) -> tuple[dict[str, dict[int, str]], list[str]]:
    """(video -> object -> category, class names in order if the file lists them); empty without the file."""
    if not file.exists():
        return {}, []
    document = read_object(file, report) or {}
    found: dict[str, dict[int, str]] = {}
    videos = document.get("videos")
    if not isinstance(videos, dict):
        report(Problem(file, "", "must be an object with 'videos', as in YouTube-VOS"))
        return {}, []
    for name, video in videos.items():
        objects = video.get("objects") if isinstance(video, dict) else None
        found[name] = {}
        for value, item in (objects if isinstance(objects, dict) else {}).items():
            category = item.get("category") if isinstance(item, dict) else None
            number = untrusted.whole_number(value)
            if number is not None and isinstance(category, str) and category:
                found[name][number] = category
            else:
                report(Problem(file, f"video {name}, object {value}", 'must be {"category": NAME}'))
    names = document.get("categories", [])
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        report(Problem(file, "", "'categories' must be a list of names"))
        names = []
    return found, names


def _resolved(folder: Path) -> Path:
    return next((folder / name for name in _RESOLUTIONS if (folder / name).is_dir()), folder)


def write_davis(dataset: Dataset, videos: NamedVideos, output: Output) -> list[str]:
    folder = output.folder
    category_name = {category.id: category.name for category in dataset.categories}
    meta: dict[str, Any] = {"categories": list(category_name.values()), "videos": {}}
    lost: list[str] = []
    for name, video in videos:
        values = values_for(video.tracks, range(1, _UNLABELLED + 1))
        if len(video.tracks) >= _UNLABELLED:
            raise UserError(f"video {name}: {len(video.tracks)} objects; a palette holds {_UNLABELLED - 1}")
        for stem, labels in paint_labels(video, name, values, lost):
            _save_palette(labels.astype(np.uint8), folder / "Annotations" / name / f"{stem}.png")
        if output.frames:
            copy_frames(dataset, video, folder / "JPEGImages" / name, frame_stems(video))
        meta["videos"][name] = {
            "objects": {
                str(values[track.id]): {"category": category_name[track.category_id]}
                for track in video.tracks
            }
        }
    write_json(folder / "meta.json", meta)
    return lost


def _save_palette(labels: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels)
    image.putpalette(_PALETTE)
    image.save(path)


def _colour(index: int) -> list[int]:
    """The colour that VOC, DAVIS and most viewers give to an index: its bits spread over r, g and b."""
    return [
        sum(((index >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(3)) for channel in range(3)
    ]


_PALETTE = [value for index in range(256) for value in _colour(index)]

DAVIS = Format("davis", "a DAVIS or YouTube-VOS folder", find_davis, read_davis, write_davis, "meta.json")
