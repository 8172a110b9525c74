"""Lists of videos, and results, that somebody else wrote."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
from pyarrow import parquet

from ookd.errors import UserError
from ookd.fleet.listing import listed
from ookd.fleet.result import FleetTrack, FleetTracks, read_tracks, write_tracks


def table(**columns: Any) -> Callable[[Path], object]:
    return lambda path: parquet.write_table(pa.table(columns), path)


def many_rows(path: Path) -> None:
    """Six million names of one video, in a few kB."""
    name = pa.array(["a.mp4"])
    parquet.write_table(pa.table({"video": pa.DictionaryArray.from_arrays([0] * 6_000_000, name)}), path)


def text(content: str | bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content.encode() if isinstance(content, str) else content)


def cut(path: Path) -> None:
    table(video=["a.mp4"] * 1000)(path)
    path.write_bytes(path.read_bytes()[:300] + bytes(100) + path.read_bytes()[400:])


LISTS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "a field of 200,000 letters": ("a.csv", text("video\n" + "x" * 200_000), "is not a table"),
    "a field that is never closed": (
        "a.csv",
        text('"video\n' + "a.mp4\n" * 50_000),
        "has no column|is not a table",
    ),
    "a head alone": ("a.csv", text("video\n"), "no videos there"),
    "nothing": ("a.csv", text(""), "has no column"),
    "a text": ("a.parquet", text("video\na.mp4\n"), "is not a Parquet table"),
    "a damaged table": ("a.parquet", cut, "is not a Parquet table"),
    "numbers for names": ("a.parquet", table(video=[1, 2]), "must be texts"),
    "lists for names": ("a.parquet", table(video=[["a.mp4"]]), "must be texts"),
    "bytes for names": ("a.parquet", table(video=[b"\xff\xfe"]), "must be texts"),
    "six million rows": ("a.parquet", many_rows, "more than 5000000 videos in a list"),
    "notes alone": ("a.txt", text("# nothing\n\n#\n"), "no videos there"),
    "a pipe": ("a.txt", os.mkfifo, "is a pipe or a device"),
    "a pipe as a table": ("a.parquet", os.mkfifo, "is a pipe or a device"),
    "a folder as a table": ("a.csv", Path.mkdir, "no videos there"),
}


@pytest.mark.parametrize("name", LISTS)
def test_odd_lists_are_one_line(name: str, tmp_path: Path) -> None:
    file, make, says = LISTS[name]
    make(tmp_path / file)
    with pytest.raises(UserError, match=says) as caught:
        listed(str(tmp_path / file))
    assert "\n" not in str(caught.value)


def test_a_folder_that_leads_to_itself(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    (tmp_path / "again").symlink_to(tmp_path)
    (tmp_path / "pipe.mp4").symlink_to("/dev/zero")
    assert listed(str(tmp_path)) == [str(tmp_path / "a.mp4")]


SOUND = FleetTracks(2, 10.0, 8, 12, [FleetTrack(0, 0, "cat", 0.5, [0], [0.5], [[0.0, 0.0, 1.0, 1.0]], ["0"])])


def stored(**changes: Any) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        write_tracks(path, SOUND)
        content = orjson.loads(gzip.decompress(path.read_bytes()))
        content["tracks"][0] |= changes.pop("track", {})
        path.write_bytes(gzip.compress(orjson.dumps(content | changes)))

    return make


def damaged(path: Path) -> None:
    write_tracks(path, SOUND)
    content = bytearray(path.read_bytes())
    content[20:40] = bytes([0xFF] * 20)
    path.write_bytes(content)


RESULTS: dict[str, Callable[[Path], object]] = {
    "damaged bytes": damaged,
    "a bomb": lambda path: path.write_bytes(gzip.compress(bytes(400 << 20), 9)),
    "a size of text": stored(height="8"),
    "frames beyond all": stored(frames=10**18),
    "frames of a track that are texts": stored(track={"frames": ["0"]}),
    "more scores than frames": stored(track={"scores": [0.5, 0.5]}),
    "a box of three": stored(track={"boxes": [[0, 0, 1]]}),
    "an id beyond all": stored(track={"id": 2**40}),
    "a list": lambda path: path.write_bytes(gzip.compress(b"[]")),
    "a pipe": os.mkfifo,
}


@pytest.mark.parametrize("name", RESULTS)
def test_odd_results_are_one_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json.gz"
    RESULTS[name](path)
    with pytest.raises(UserError, match=r"is damaged; delete it and run again|pipe"):
        read_tracks(path)


def test_sound_results_stay_readable(tmp_path: Path) -> None:
    write_tracks(tmp_path / "a.json.gz", SOUND)
    assert read_tracks(tmp_path / "a.json.gz") == SOUND
