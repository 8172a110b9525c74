"""The result of one video: its tracks with their masks, in one file that is complete or absent."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import orjson
from pydantic import Field, TypeAdapter

from ookd import limits
from ookd.errors import UserError
from ookd.files import write_file
from ookd.untrusted import check_file

SUFFIX = ".json.gz"
_SMALL = 64 << 20  # bytes that any result may unpack to
Count = Annotated[int, Field(ge=0, lt=2**31)]  # as tables hold it


@dataclass(slots=True)
class FleetTrack:
    """One object. The lists have one entry per frame that shows it."""

    id: Count
    label: Count
    name: str  # of the class
    score: float
    frames: list[Count] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    boxes: list[list[float]] = field(default_factory=list)  # x1 y1 x2 y2
    masks: list[str] = field(default_factory=list)  # counts of COCO run lengths


@dataclass(slots=True)
class FleetTracks:
    """All tracks of a video."""

    frames: Count
    fps: float
    height: Count
    width: Count
    tracks: list[FleetTrack]


def write_tracks(path: Path, found: FleetTracks) -> None:
    """Write the tracks; equal tracks give equal bytes."""
    write_file(path, gzip.compress(orjson.dumps(asdict(found)), compresslevel=6, mtime=0))


def read_tracks(path: Path) -> FleetTracks:
    check_file(path)
    most = max(_SMALL, limits.UNPACKED.most * path.stat().st_size)
    try:
        with gzip.open(path) as file:
            content = file.read(most + 1)
        if len(content) > most or not _fits(found := _CHECKED.validate_json(content, strict=True)):
            raise ValueError
    except (OSError, EOFError, ValueError, zlib.error):
        raise UserError(f"{path}: is damaged; delete it and run again") from None
    return found


def _fits(found: FleetTracks) -> bool:
    """Whether every sighting has all its parts."""
    return all(
        len(track.frames) == len(track.scores) == len(track.boxes) == len(track.masks)
        and all(len(box) == 4 for box in track.boxes)
        for track in found.tracks
    )


_CHECKED = TypeAdapter(FleetTracks)
