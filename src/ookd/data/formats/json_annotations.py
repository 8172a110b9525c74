"""Annotations in one JSON file: YTVIS and OVIS list `videos`, COCO lists `images`."""

from __future__ import annotations

import re
from pathlib import Path

from ookd import untrusted
from ookd.data.archives import is_archive
from ookd.data.formats.coco import read_coco
from ookd.data.formats.edits import corrected, log_beside
from ookd.data.formats.format import AnnotationSource, Format, split_of
from ookd.data.formats.json_file import read_object
from ookd.data.formats.problems import Problem, Report
from ookd.data.formats.ytvis import read_ytvis
from ookd.data.frames import read_bytes, through_video
from ookd.errors import UserError
from ookd.structures import Dataset

_READERS = {"images": read_coco, "videos": read_ytvis}  # by the list that distinguishes them
_NOT_ANNOTATIONS = {"meta.json", "config.json", "results.json", "package.json"}


def find_json(path: Path) -> list[AnnotationSource]:
    """A .json file, or those of a folder and of its `annotations`."""
    files = _annotation_files(path) if path.is_dir() else [path] * (path.suffix.lower() == ".json")
    return [AnnotationSource(JSON, file, split_of(file.stem)) for file in files]


def _annotation_files(folder: Path) -> list[Path]:
    files = [
        file
        for place in (folder, folder / "annotations")
        for file in sorted(place.glob("*.json"))
        if file.name not in _NOT_ANNOTATIONS and not _is_list(file)
    ]
    instances = [file for file in files if file.name.startswith("instances")]
    return instances or files  # COCO also has captions and keypoints


def _is_list(file: Path) -> bool:
    """Predictions are a list; annotations are an object."""
    if not untrusted.is_file(file):
        return False
    with file.open("rb") as opened:
        return opened.read(64).lstrip().startswith(b"[")


def read_json(source: AnnotationSource, report: Report) -> Dataset | None:
    """The annotations with the corrections next to them."""
    dataset = read_annotations(source.path, report)
    return None if dataset is None else corrected(dataset, log_beside(source.path), report)


def read_annotations(file: Path, report: Report) -> Dataset | None:
    """The annotations as they are in the file."""
    document = read_object(file, report)
    if document is None:
        return None
    reader = next((reader for key, reader in _READERS.items() if key in document), None)
    if reader is None:
        report(Problem(file, "", "has neither 'videos' (YTVIS, OVIS) nor 'images' (COCO)"))
        return None
    dataset = reader(document, file, report)
    if dataset.videos:
        dataset.root = find_frames(file, dataset.videos[0].file_names[0])
    return dataset


def find_frames(annotations: Path, file_name: str) -> Path:
    """The folder, archive or video that a file name is relative to, by trying where data sets keep it.

    If the file is nowhere, this is the annotations' own folder, so that messages name a sensible path.
    """
    words = [word for word in re.split(r"[_\-.]", annotations.stem) if word]  # train2017, valid, ...
    folders = [
        Path(inner, leaf)
        for inner in ("", *words, *(f"images/{word}" for word in words))
        for leaf in ("", "JPEGImages", "images", "frames", "img")
    ]
    archives = [
        Path(f"{name}.zip", inner)
        for name in (*words, "JPEGImages", "images", "frames")
        for inner in ("", name, f"{name}/JPEGImages")
    ]
    for base in (annotations.parent, annotations.parent.parent):
        for inner in (*folders, *archives):
            if _holds(base / inner, file_name):
                return base / inner
    return annotations.parent


def _holds(folder: Path, file_name: str) -> bool:
    path = folder / file_name
    if untrusted.is_file(path):
        return True
    try:
        if (video := through_video(path)) is not None:
            return untrusted.is_file(video[0])
        if not any(is_archive(parent) and untrusted.is_file(parent) for parent in path.parents):
            return False
        read_bytes(path)
    except UserError:
        return False
    return True


JSON = Format("json", "a YTVIS, OVIS or COCO .json", find_json, read_json, server_numbers=True)
