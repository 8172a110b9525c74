"""The list of videos: a folder, a glob, a text file, or a column of a CSV or Parquet table."""

from __future__ import annotations

import csv
import glob
import re
from pathlib import Path

from ookd import limits, untrusted
from ookd.errors import UserError

COLUMNS = ("video", "path", "url", "file")  # the column of a table that holds the videos
SUFFIXES = frozenset(
    (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".mpg", ".mpeg", ".flv", ".ogv", ".wmv")
)
URL = re.compile(r"[a-z][a-z0-9+.-]*://")


def listed(source: str) -> list[str]:
    """The addresses of all videos, in a fixed order and without duplicates."""
    path = Path(source)
    suffix = path.suffix.lower()
    fault = untrusted.fault_of(path)
    if fault == untrusted.FOLDER:
        files = [file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file()]
        found = sorted(map(str, files))
    elif fault == untrusted.MISSING and glob.has_magic(source):
        found = sorted(file for file in glob.glob(source, recursive=True) if Path(file).is_file())
    elif fault is not None:
        raise UserError(f"{source}: {fault}")
    elif suffix in (".csv", ".tsv", ".parquet"):
        found = _beside(path, _parquet(path) if suffix == ".parquet" else _table(path, suffix))
    elif suffix in SUFFIXES:
        found = [source]
    else:
        lines = (line.strip() for line in untrusted.read_lines(path))
        found = _beside(path, [line for line in lines if line and not line.startswith("#")])
    if not found:
        raise UserError(f"{source}: no videos there")
    return list(dict.fromkeys(found))


def shard_of(videos: list[str], text: str | None) -> list[str]:
    """The videos of one part of an array job: `2/8` is the third of eight."""
    if text is None:
        return videos
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if not found or not int(found[1]) < int(found[2]):
        raise UserError(
            f"--shard {text}: write the part, counted from 0, and the number of parts, such as 0/8"
        )
    return videos[int(found[1]) :: int(found[2])]


def is_url(address: str) -> bool:
    return URL.match(address) is not None


def _beside(path: Path, addresses: list[str]) -> list[str]:
    """Relative paths start at the folder of the list."""
    return [one if is_url(one) or Path(one).is_absolute() else str(path.parent / one) for one in addresses]


def _table(path: Path, suffix: str) -> list[str]:
    rows = csv.reader(untrusted.read_lines(path), delimiter="\t" if suffix == ".tsv" else ",")
    try:
        head = next(rows, [])
        place = head.index(_column(path, head))
        return [row[place].strip() for row in rows if len(row) > place and row[place].strip()]
    except csv.Error as error:
        raise UserError(f"{path}: line {rows.line_num}: is not a table: {error}") from None


def _parquet(path: Path) -> list[str]:
    from pyarrow import ArrowException, parquet

    try:
        with parquet.ParquetFile(path) as table:
            limits.VIDEOS.check(table.metadata.num_rows, path)
            column = _column(path, table.schema_arrow.names)
            found = [one for one in table.read([column])[column].to_pylist() if one]
    except (ArrowException, OSError) as error:
        raise UserError(f"{path}: is not a Parquet table: {' '.join(str(error).split())[:200]}") from None
    if not all(isinstance(one, str) for one in found):
        raise UserError(f"{path}: column {column}: the addresses of videos must be texts")
    return found


def _column(path: Path, names: list[str]) -> str:
    found = next((name for name in COLUMNS if name in names), None)
    if found is None:
        raise UserError(f"{path}: has no column {', '.join(COLUMNS[:-1])} or {COLUMNS[-1]}")
    return found
