"""Annotation formats in and out: everything becomes a `Dataset`, whatever lies in the folder."""

from __future__ import annotations

from pathlib import Path

from ookd.data.formats.detect import Source, choose, find, find_frames, with_frames
from ookd.data.formats.json_file import read_json
from ookd.data.formats.problems import Problem, Report, refuse
from ookd.data.formats.records import shown
from ookd.data.formats.ytvis import read_ytvis, save_ytvis
from ookd.structures import Dataset

__all__ = ["Problem", "Report", "Source", "find", "load", "read", "save_ytvis"]


def load(path: str | Path, split: str | None = None, frames: str | Path | None = None) -> Dataset:
    """Read a data set: a folder, an annotation file or a `dataset.yaml`.

    `split` is needed where the path holds several (train and val). `frames` is the folder, archive or video
    that file names are relative to, needed only where it is not found. The first problem raises `UserError`.
    """
    path = Path(path)
    source = with_frames(choose(find(path), path, split), None if frames is None else Path(frames))
    dataset = read(source, refuse)
    assert dataset is not None, "a reader that gives up has reported why"
    return dataset


def read(source: Source, report: Report) -> Dataset | None:
    """What is right of a source; every problem goes to `report`."""
    return _read_json(source, report)


def _read_json(source: Source, report: Report) -> Dataset | None:
    document = read_json(source.path, report)
    if document is None:
        return None
    if not isinstance(document, dict):
        report(Problem(source.path, "", f"must be a JSON object, not {shown(document)}"))
        return None
    if "videos" not in document:
        report(Problem(source.path, "", "has neither 'videos' (YTVIS, OVIS) nor 'images' (COCO)"))
        return None
    dataset = read_ytvis(document, source.path, report)
    dataset.root = source.frames
    if source.frames is None and dataset.videos:
        dataset.root = find_frames(source.path, dataset.videos[0].file_names[0])
    return dataset
