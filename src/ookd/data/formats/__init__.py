"""Annotation formats in and out: everything becomes a `Dataset`, whatever lies in the folder."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ookd.data.formats.coco import read_coco
from ookd.data.formats.dataset_yaml import with_names
from ookd.data.formats.davis import read_davis
from ookd.data.formats.detect import find, find_frames
from ookd.data.formats.json_file import read_object
from ookd.data.formats.mots import read_mots
from ookd.data.formats.problems import Problem, Report, refuse
from ookd.data.formats.source import Source, choose
from ookd.data.formats.yolo import read_yolo
from ookd.data.formats.ytvis import read_ytvis, save_ytvis
from ookd.structures import Dataset

__all__ = ["Problem", "Report", "Source", "find", "load", "load_source", "read", "save_ytvis"]


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


def load_source(source: Source) -> Dataset:
    """One of the sets that `find` found; the first problem raises `UserError`."""
    dataset = read(source, refuse)
    assert dataset is not None, "a reader that gives up has reported why"
    return dataset


def read(source: Source, report: Report) -> Dataset | None:
    """What is right of a source; every problem goes to `report`. None where nothing is."""
    with _without_collection():
        return _read(source, report)


@contextmanager
def _without_collection() -> Iterator[None]:
    """Annotations are millions of objects and no cycle: looking for cycles takes as long as reading them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _read(source: Source, report: Report) -> Dataset | None:
    match source.kind:
        case "json":
            dataset = _read_json(source, report)
        case "davis":
            dataset = read_davis(source.path, source.subset, report)
        case "mots":
            dataset = read_mots(source.path, report)
        case "yolo":
            return read_yolo(source.path, source.names, report)
    if dataset is not None and source.frames is not None:
        dataset.root = source.frames
    if dataset is not None and source.names:
        dataset = with_names(dataset, source.names, source.path, report)
    return dataset


def _read_json(source: Source, report: Report) -> Dataset | None:
    document = read_object(source.path, report)
    if document is None:
        return None
    if not {"videos", "images"} & document.keys():
        report(Problem(source.path, "", "has neither 'videos' (YTVIS, OVIS) nor 'images' (COCO)"))
        return None
    read_document = read_coco if "images" in document else read_ytvis
    dataset = read_document(document, source.path, report)
    if dataset.videos:
        dataset.root = find_frames(source.path, dataset.videos[0].file_names[0])
    return dataset
