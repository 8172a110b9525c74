"""The result of one video: its tracks with their masks, in one file that is complete or absent."""

from __future__ import annotations

import gzip
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson

from ookd.errors import UserError
from ookd.files import write_file

SUFFIX = ".json.gz"


@dataclass(slots=True)
class FleetTrack:
    """One object. The lists have one entry per frame that shows it."""

    id: int
    label: int
    name: str  # of the class
    score: float
    frames: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    boxes: list[list[float]] = field(default_factory=list)  # x1 y1 x2 y2
    masks: list[str] = field(default_factory=list)  # counts of COCO run lengths


@dataclass(slots=True)
class FleetTracks:
    """All tracks of a video."""

    frames: int
    fps: float
    height: int
    width: int
    tracks: list[FleetTrack]


def write_tracks(path: Path, found: FleetTracks) -> None:
    """Write the tracks; equal tracks give equal bytes."""
    write_file(path, gzip.compress(orjson.dumps(asdict(found)), compresslevel=6, mtime=0))


def read_tracks(path: Path) -> FleetTracks:
    try:
        stored = orjson.loads(gzip.decompress(path.read_bytes()))
        return FleetTracks(**{**stored, "tracks": [FleetTrack(**track) for track in stored["tracks"]]})
    except (OSError, EOFError, ValueError, TypeError, KeyError):
        raise UserError(f"{path}: is damaged; delete it and run again") from None
