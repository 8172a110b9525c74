"""Annotation formats in and out: every format becomes a `Dataset`.

Each format is a `Format` record in its own file; `FORMATS` lists them in the order in which they are tried.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ookd.data.formats.bounds import keep_bounds
from ookd.data.formats.coco import COCO
from ookd.data.formats.cvat import CVAT
from ookd.data.formats.dataset_yaml import describing_file, sources_in_yaml, with_names
from ookd.data.formats.davis import DAVIS
from ookd.data.formats.fiftyone import FIFTYONE
from ookd.data.formats.format import AnnotationSource, Format, Output, choose, split_of
from ookd.data.formats.json_annotations import JSON
from ookd.data.formats.label_studio import LABEL_STUDIO
from ookd.data.formats.mots import MOTS
from ookd.data.formats.problems import Problem, Report, raise_problem
from ookd.data.formats.yolo import YOLO
from ookd.data.formats.ytvis import YTVIS, save_ytvis
from ookd.errors import UserError
from ookd.structures import Dataset

__all__ = [
    "FORMATS",
    "AnnotationSource",
    "Format",
    "Output",
    "Problem",
    "Report",
    "choose",
    "find",
    "load",
    "load_source",
    "read",
    "save_ytvis",
    "writable",
]

FORMATS: dict[str, Format] = {
    format.name: format for format in (YOLO, FIFTYONE, LABEL_STUDIO, JSON, YTVIS, COCO, CVAT, DAVIS, MOTS)
}


def writable() -> list[str]:
    """Names of the formats that can be written."""
    return sorted(format.name for format in FORMATS.values() if format.write is not None)


def load(path: str | Path, split: str | None = None, frames: str | Path | None = None) -> Dataset:
    """Read a data set: a folder, an annotation file or a `dataset.yaml`.

    `split` is needed where the path holds several (train and val). `frames` is the folder, archive or video
    that file names are relative to, needed only where it is not found. The first problem raises `UserError`.
    """
    path = Path(path)
    source = choose(find(path), path, split)
    if frames is not None:
        source = replace(source, frames=Path(frames))
    return load_source(source)


def load_source(source: AnnotationSource) -> Dataset:
    """Read one of the sets that `find` found; the first problem raises `UserError`."""
    dataset = read(source, raise_problem)
    assert dataset is not None, "a reader that gives up has reported why"
    return dataset


def read(source: AnnotationSource, report: Report) -> Dataset | None:
    """The valid part of a source; each problem goes to `report`. None if nothing can be read."""
    assert source.format.read is not None, "only formats that can be read are found"
    with _without_garbage_collection():
        dataset = source.format.read(source, report)
        if dataset is not None and source.frames is not None:
            dataset.root = source.frames
        if dataset is not None and source.names:
            dataset = with_names(dataset, source.names, source.path, report)
        if dataset is not None:
            keep_bounds(dataset, source.path, report)
    return dataset


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Annotations are millions of objects without cycles; looking for cycles takes as long as reading."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def find(path: Path) -> list[AnnotationSource]:
    """All sets of annotations at a path."""
    try:
        described = describing_file(path)
        return _find_plain(path) if described is None else sources_in_yaml(described, _find_plain)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None


def _find_plain(path: Path) -> list[AnnotationSource]:
    """The sets besides a dataset.yaml, which never leads to another one."""
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    found = _of_one_format(path) or _in_split_folders(path)
    if not found:
        titles = ", ".join(format.title for format in FORMATS.values() if format.find is not None)
        raise UserError(f"{path}: holds no annotations; expected a dataset.yaml, or {titles}")
    return found


def _of_one_format(path: Path) -> list[AnnotationSource]:
    """The sets of the first format that finds any."""
    for format in FORMATS.values():
        if format.find is not None and (found := format.find(path)):
            return found
    return []


def _in_split_folders(folder: Path) -> list[AnnotationSource]:
    """Sets in subfolders such as train/ and val/, each complete in itself."""
    inner = sorted(item for item in folder.iterdir() if item.is_dir()) if folder.is_dir() else []
    return [
        replace(source, split=split)
        for item in inner
        if (split := split_of(item.name))
        for source in _of_one_format(item)
    ]
