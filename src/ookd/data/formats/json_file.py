"""Read JSON files of unknown quality; write JSON files and folders of annotated frames."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import orjson
import yaml

from ookd import untrusted
from ookd.data.formats.format import NamedVideos, Output
from ookd.data.formats.problems import Problem, Report
from ookd.data.formats.records import shown
from ookd.data.frames import copy_frames, frame_stems
from ookd.errors import UserError
from ookd.files import write_file
from ookd.structures import Dataset, Video

ANNOTATIONS = "instances.json"


def read_object(path: Path, report: Report) -> dict[str, Any] | None:
    """The file's JSON object, or None after a report. NaN and Infinity, which JSON lacks, become floats."""
    try:
        raw = untrusted.read_bytes(path).removeprefix(b"\xef\xbb\xbf")  # the byte order mark of some editors
        document = _parse(raw)
    except UserError as error:
        report(Problem(path, "", str(error).removeprefix(f"{path}: ")))
    except UnicodeDecodeError as error:
        report(Problem(path, f"byte {error.start}", "is not UTF-8 text; save the file as UTF-8"))
    except RecursionError:
        report(Problem(path, "", "is nested too deeply to be an annotation file"))
    except orjson.JSONDecodeError as error:
        at_end = error.pos >= len(error.doc) - 1
        hint = "; the file ends too early, copy it again" if at_end else ""
        place = f"line {error.lineno}, column {error.colno}" if error.doc.strip() else ""
        what = f"is not valid JSON: {error.msg}{hint}" if place else "is empty; it must hold a JSON object"
        report(Problem(path, place, what))
    else:
        if isinstance(document, dict):
            return document
        report(Problem(path, "", f"must be a JSON object, not {shown(document)}"))
    return None


def _parse(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        text = raw.decode("utf-8")
        try:  # Python writes NaN by default: read it, so that the message can name the record
            return json.loads(text, parse_int=_bounded)
        except ValueError:
            raise error from None


def _bounded(digits: str) -> int | float:
    return int(digits) if len(digits) < 19 else float(digits)


def write_json(path: Path, document: Any) -> None:
    """Write a whole JSON file."""
    write_file(path, orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY))


def write_json_set(
    dataset: Dataset, videos: NamedVideos, output: Output, to_document: Callable[[Dataset], dict[str, Any]]
) -> None:
    """Write the frames, one JSON file of annotations, and a dataset.yaml that says where they are."""
    frames = str((dataset.root or Path()).resolve())
    if output.frames:
        dataset, frames = _with_copied_frames(dataset, videos, output.folder / "frames"), "frames"
    write_json(output.folder / ANNOTATIONS, to_document(dataset))
    described = {
        "names": [category.name for category in dataset.categories],
        output.split: {"annotations": ANNOTATIONS, "frames": frames},
    }
    text = yaml.safe_dump(described, sort_keys=False, allow_unicode=True)
    write_file(output.folder / "dataset.yaml", text)


def _with_copied_frames(dataset: Dataset, videos: NamedVideos, folder: Path) -> Dataset:
    """The same videos with their frames copied into `folder`."""
    copied: list[Video] = []
    for name, video in videos:
        inside = "" if video.length == 1 else name
        stems = [name] if video.length == 1 else frame_stems(video)
        files = copy_frames(dataset, video, folder / inside, stems)
        copied.append(replace(video, file_names=[str(PurePosixPath(inside, file)) for file in files]))
    return replace(dataset, videos=copied)
