"""All results as three Parquet tables, which DuckDB, pandas and Spark can open.

videos: one row per video, in the order of the list. tracks: one row per track. frames: one row per track and
frame, with its mask. The tables are always written from the result files; a row group holds a few videos.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from ookd.files import new_file
from ookd.fleet.process import path_of
from ookd.fleet.result import FleetTracks, read_tracks

ROWS = 50_000  # of the frames table, after which a row group is written

SCHEMAS = {
    "videos": pa.schema(
        {
            "video": pa.string(),
            "key": pa.string(),  # name of the result file; null if there is none
            "frames": pa.int32(),
            "fps": pa.float64(),
            "height": pa.int32(),
            "width": pa.int32(),
            "tracks": pa.int32(),
            "reason": pa.string(),  # of a failure
        }
    ),
    "tracks": pa.schema(
        {
            "video": pa.string(),
            "id": pa.int32(),
            "label": pa.int32(),
            "class": pa.string(),
            "score": pa.float32(),
            "first_frame": pa.int32(),
            "last_frame": pa.int32(),
            "frames": pa.int32(),
        }
    ),
    "frames": pa.schema(
        {
            "video": pa.string(),
            "id": pa.int32(),
            "frame": pa.int32(),
            "score": pa.float32(),
            "x1": pa.float32(),
            "y1": pa.float32(),
            "x2": pa.float32(),
            "y2": pa.float32(),
            "height": pa.int32(),
            "width": pa.int32(),
            "counts": pa.string(),  # COCO run lengths of [height, width]
        }
    ),
}


@dataclass(frozen=True, slots=True)
class TableWriter:
    """Collects rows for a Parquet file."""

    schema: Any
    file: Any
    rows: list[dict[str, Any]]

    def flush(self) -> None:
        self.file.write_table(pa.Table.from_pylist(self.rows, self.schema))
        self.rows.clear()


def write_tables(
    out: Path, videos: Sequence[str], keys: Mapping[str, str], failed: Mapping[str, str], suffix: str = ""
) -> list[Path]:
    """Write the tables of these videos: finished ones with their keys, `failed` ones with their reasons."""
    paths = {name: out / f"{name}{suffix}.parquet" for name in SCHEMAS}
    with ExitStack() as stack:
        tables = {name: _begin(stack, paths[name], schema) for name, schema in SCHEMAS.items()}
        for video in videos:
            found = read_tracks(path_of(out, keys[video])) if video in keys else None
            tables["videos"].rows.append(_video(video, keys.get(video), found, failed.get(video)))
            if found is not None:
                tables["tracks"].rows.extend(_tracks(video, found))
                tables["frames"].rows.extend(_frames(video, found))
            if len(tables["frames"].rows) > ROWS:
                for table in tables.values():
                    table.flush()
        for table in tables.values():
            table.flush()
    return list(paths.values())


def _begin(stack: ExitStack, path: Path, schema: Any) -> TableWriter:
    part = stack.enter_context(new_file(path))
    file = stack.enter_context(parquet.ParquetWriter(part, schema, compression="zstd"))
    return TableWriter(schema, file, [])


def _video(video: str, key: str | None, found: FleetTracks | None, reason: str | None) -> dict[str, Any]:
    row: dict[str, Any] = {"video": video, "key": key, "reason": reason}
    if found is not None:
        row |= {name: getattr(found, name) for name in ("frames", "fps", "height", "width")}
        row["tracks"] = len(found.tracks)
    return row


def _tracks(video: str, found: FleetTracks) -> Iterator[dict[str, Any]]:
    for track in found.tracks:
        yield {
            "video": video,
            "id": track.id,
            "label": track.label,
            "class": track.name,
            "score": track.score,
            "first_frame": min(track.frames, default=None),
            "last_frame": max(track.frames, default=None),
            "frames": len(track.frames),
        }


def _frames(video: str, found: FleetTracks) -> Iterator[dict[str, Any]]:
    for track in found.tracks:
        for frame, score, box, counts in zip(
            track.frames, track.scores, track.boxes, track.masks, strict=True
        ):
            yield {
                "video": video,
                "id": track.id,
                "frame": frame,
                "score": score,
                **dict(zip(("x1", "y1", "x2", "y2"), box, strict=True)),
                "height": found.height,
                "width": found.width,
                "counts": counts,
            }
