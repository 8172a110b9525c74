"""Writes result files in the form that benchmark servers accept."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import orjson

from ookd.errors import UserError
from ookd.files import new_file
from ookd.structures import TrackResult

_MEMBER = "results.json"  # the name that servers expect


def write_submission(results: Iterable[TrackResult], path: str | Path, overwrite: bool = False) -> Path:
    """Write a result list as `.json`, or as `.zip` with a results.json inside, ready for a server.

    Results are written one by one, so they may come from a generator. The file is whole or not there.
    """
    path = Path(path)
    if path.suffix not in (".json", ".zip"):
        raise UserError(f"{path}: a submission is a .json or .zip file")
    if path.exists() and not overwrite:
        raise UserError(f"{path}: exists; choose another name or allow overwriting")
    with new_file(path) as part:
        if path.suffix == ".zip":
            with (
                zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive,
                archive.open(_MEMBER, "w", force_zip64=True) as member,
            ):
                member.writelines(_pieces(results))
        else:
            with part.open("wb") as file:
                file.writelines(_pieces(results))
    return path


def _pieces(results: Iterable[TrackResult]) -> Iterator[bytes]:
    """The JSON list, one entry at a time."""
    yield b"["
    for i, result in enumerate(results):
        yield (b",\n" if i else b"\n") + orjson.dumps(
            {
                "video_id": result.video_id,
                "category_id": result.category_id,
                "score": float(result.score),
                "segmentations": result.segmentations,
            }
        )
    yield b"\n]\n"
