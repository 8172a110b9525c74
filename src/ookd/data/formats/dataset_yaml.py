"""`dataset.yaml`: where the splits of a data set are and what its classes are called.

    path: /data/forklifts         # where the paths below start; default: this file's folder
    names: [person, forklift]     # in label order, for all splits; default: as in the annotations
    train: train.json             # anything that can be read: a .json, a folder
    val:                          # the long form, if the frames are not found automatically
      annotations: val.json
      frames: videos/street.mp4   # folder, archive or video that file names start from

A YOLO `data.yaml` is such a file too; its splits name folders of images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from itertools import count
from pathlib import Path
from typing import Any

from ookd import untrusted
from ookd.data.formats.format import SPLITS, AnnotationSource, choose
from ookd.data.formats.problems import Problem, Report
from ookd.data.formats.records import shown
from ookd.errors import UserError
from ookd.structures import Category, Dataset

_FILES = ("dataset.yaml", "dataset.yml", "data.yaml", "data.yml")
_KEYS = ("path", "names", *SPLITS)
_YOLO_KEYS = ("nc", "download", "roboflow", "minival", "channels")  # without meaning here

Find = Callable[[Path], list[AnnotationSource]]


def describing_file(path: Path) -> Path | None:
    """The dataset.yaml that a path is or, as a folder, holds."""
    if path.suffix.lower() in (".yaml", ".yml") and not path.is_dir():
        return path
    return next((path / name for name in _FILES if (path / name).is_file()), None)


def sources_in_yaml(file: Path, find: Find) -> list[AnnotationSource]:
    """The splits that the file names; `find` finds what lies at their paths."""
    document = _read(file)
    for key in document:
        if key not in _KEYS + _YOLO_KEYS:
            near = get_close_matches(str(key), _KEYS, 1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; it can have {', '.join(_KEYS)}"
            raise UserError(f"{file}: unknown key '{key}'{hint}")
    base = file.parent / Path(_text(document.get("path", "."), "path", file))
    names = _names(document.get("names"), file)
    sources = [
        _source(document[split], split, base, names, file, find) for split in SPLITS if document.get(split)
    ]
    if not sources:
        raise UserError(f"{file}: names no split; add for example 'train: train.json'")
    return sources


def _read(file: Path) -> dict[Any, Any]:
    document = untrusted.read_yaml(file)
    if not isinstance(document, dict):
        raise UserError(f"{file}: must hold 'key: value' lines, not {shown(document)}")
    return document


def _text(value: Any, key: str, file: Path) -> str:
    if not isinstance(value, str) or not value:
        raise UserError(f"{file}: '{key}' must be a path, not {shown(value)}")
    return value


def _names(value: Any, file: Path) -> tuple[str, ...]:
    """The class names, from a list or from YOLO's mapping of 0, 1, 2, ..."""
    if isinstance(value, dict) and sorted(value, key=str) == sorted(range(len(value)), key=str):
        value = [value[label] for label in range(len(value))]
    if value is None:
        return ()
    if not isinstance(value, list) or not value or not all(isinstance(name, str) and name for name in value):
        raise UserError(f"{file}: 'names' must be a list of class names, not {shown(value)}")
    if len(set(value)) < len(value):
        raise UserError(f"{file}: 'names' holds '{max(value, key=value.count)}' more than once")
    return tuple(value)


def _source(
    value: Any, split: str, base: Path, names: tuple[str, ...], file: Path, find: Find
) -> AnnotationSource:
    frames = None
    if isinstance(value, dict):
        unknown = sorted(map(str, value.keys() - {"annotations", "frames"}))
        if unknown or "annotations" not in value:
            raise UserError(f"{file}: '{split}' has the keys 'annotations' and 'frames', nothing else")
        if value.get("frames") is not None:
            frames = base / _text(value["frames"], f"{split}.frames", file)
        value = value["annotations"]
    text = _text(value, split, file)
    path = base / text
    if not path.exists() and (base / text.removeprefix("../")).exists():
        path = base / text.removeprefix("../")  # Roboflow's exports go up one folder too many
    found = find(path)
    chosen = choose(found, path, split if len(found) > 1 else None)
    return replace(chosen, split=split, frames=frames, names=names)


def with_names(dataset: Dataset, names: tuple[str, ...], file: Path, report: Report) -> Dataset:
    """The same data with its classes in the order of `names`, which is the order of labels. Ids are kept.

    Names that are not in the file get new ids; a class that has objects must be in `names`.
    """
    known = {category.name: category for category in dataset.categories}
    unused = count(max((category.id for category in dataset.categories), default=0) + 1)
    categories = [known.get(name) or Category(next(unused), name) for name in names]
    kept = {category.id for category in categories}
    used = {track.category_id for video in dataset.videos for track in video.tracks}
    for category in dataset.categories:
        if category.id in used - kept:
            what = f"has objects of the class '{category.name}', which 'names' does not list"
            report(Problem(file, "", f"{what}; 'names' is in the dataset.yaml"))
    for video in dataset.videos:
        video.tracks = [track for track in video.tracks if track.category_id in kept]
    return replace(dataset, categories=categories)
