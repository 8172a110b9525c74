"""The unit of work: one video in, one file out, the same whenever and wherever it is asked for."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow", reason="the extra fleet is not installed")
pytest.importorskip("fsspec", reason="the extra fleet is not installed")

import pyarrow as pa
from pyarrow import parquet

from docs.pages import ROOT, blocks
from fleet.filming import SETTINGS, film
from ookd.api import load, track
from ookd.data import rle
from ookd.errors import UserError
from ookd.fleet.listing import listed, shard_of
from ookd.fleet.process import FleetModel, path_of, process
from ookd.fleet.result import read_tracks
from ookd.fleet.tables import write_tables


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return film(tmp_path_factory.mktemp("videos"), 2)


@pytest.fixture(scope="module")
def model() -> FleetModel:
    return FleetModel(SETTINGS, "cpu")


def test_a_result_is_what_track_finds(videos: list[Path], model: FleetModel, tmp_path: Path) -> None:
    done = process(str(videos[0]), model, tmp_path)
    found = read_tracks(path_of(tmp_path, done.key))
    expected = list(track(videos[0], load("nano", "cpu")))
    assert (done.frames, found.frames, found.height, found.width) == (4, 4, 64, 96)
    assert sum(len(one.frames) for one in found.tracks) == sum(map(len, expected)) > 0
    for one in found.tracks:
        for frame, score, mask in zip(one.frames, one.scores, one.masks, strict=True):
            place = expected[frame].ids.tolist().index(one.id)
            assert score == expected[frame].scores[place]
            assert mask == rle.encode(expected[frame].masks[place])["counts"]
        assert one.score == pytest.approx(sum(one.scores) / len(one.scores))


def test_the_python_of_the_page(videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("street.mp4").write_bytes(videos[0].read_bytes())
    names: dict[str, Any] = {}
    (code,) = [block.text for block in blocks(ROOT / "docs" / "scale.md") if block.language == "python"]
    exec(code, names)
    assert names["tracks"]


def test_what_is_there_is_not_done_again(videos: list[Path], model: FleetModel, tmp_path: Path) -> None:
    first = process(str(videos[0]), model, tmp_path)
    file = path_of(tmp_path, first.key)
    before = file.read_bytes(), file.stat().st_mtime_ns
    copy = tmp_path / "another name.mp4"
    copy.write_bytes(videos[0].read_bytes())
    again = process(str(copy), model, tmp_path)
    assert (again.kept, again.key) == (True, first.key)  # known by its content
    file.unlink()
    process(str(videos[0]), model, tmp_path)
    assert (file.read_bytes(), file.stat().st_mtime_ns != before[1]) == (before[0], True)
    assert process(str(videos[1]), model, tmp_path).key != first.key


@pytest.mark.parametrize(
    "change", [{"score": 0.5}, {"classes": ("fish",)}, {"fingerprint": "another"}, {"label": True}]
)
def test_other_settings_are_other_results(change: dict, videos: list[Path]) -> None:
    assert replace(SETTINGS, **change).key("content") != SETTINGS.key("content")
    assert replace(SETTINGS, model="the same weights elsewhere").key("content") == SETTINGS.key("content")


@pytest.mark.parametrize("label", [False, True])
def test_every_second_frame(label: bool, videos: list[Path], tmp_path: Path) -> None:
    settings = replace(SETTINGS, every=2, label=label, score=0.2)
    long = film(tmp_path, 1, frames=9)[0]
    found = read_tracks(path_of(tmp_path, process(str(long), FleetModel(settings, "cpu"), tmp_path).key))
    assert found.frames == 5
    assert {frame for one in found.tracks for frame in one.frames} == {0, 2, 4, 6, 8}


def test_a_damaged_video_leaves_nothing(videos: list[Path], model: FleetModel, tmp_path: Path) -> None:
    long = film(tmp_path, 1, frames=30)[0]
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(long.read_bytes()[:-3000])
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"damaged|can be read|not a video"):
        process(str(cut), model, out)
    assert not list(out.rglob("*.gz*"))


def test_confident_tracks_are_those_of_label(videos: list[Path], tmp_path: Path) -> None:
    settings = replace(SETTINGS, label=True, score=0.4)
    done = process(str(videos[0]), FleetModel(settings, "cpu"), tmp_path)
    found = read_tracks(path_of(tmp_path, done.key)).tracks
    assert found
    assert all(one.score >= 0.4 and len(one.frames) >= 3 for one in found)


@contextmanager
def web(folder: Path) -> Iterator[str]:
    """A server of these files on this machine."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_a_url_is_fetched_and_its_copy_deleted(
    videos: list[Path], model: FleetModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("aiohttp")
    kept = tmp_path / "kept"
    kept.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(kept))
    with web(videos[0].parent) as home:
        done = process(f"{home}/00.mp4", model, tmp_path)
        assert process(f"{home}/00.mp4", model, tmp_path).kept
        with pytest.raises(UserError, match=r"missing\.mp4"):
            process(f"{home}/missing.mp4", model, tmp_path)
    local = process(str(videos[0]), model, tmp_path)
    assert path_of(tmp_path, done.key).read_bytes() == path_of(tmp_path, local.key).read_bytes()
    assert not list(kept.iterdir())
    with pytest.raises(UserError, match="nonsense"):
        process("nonsense://x/y.mp4", model, tmp_path)


@pytest.mark.parametrize("kind", ["folder", "glob", "txt", "csv", "tsv", "parquet", "one"])
def test_videos_are_listed(kind: str, videos: list[Path], tmp_path: Path) -> None:
    names, folder = list(map(str, videos)), videos[0].parent
    source = str(tmp_path / f"list.{kind}")
    if kind == "folder":
        source = str(folder)
    elif kind == "glob":
        source = str(folder / "*.mp4")
    elif kind == "one":
        source, names = names[0], names[:1]
    elif kind == "txt":
        Path(source).write_text("# mine\n" + "\n".join([*names, "", names[0]]))
    elif kind == "parquet":
        parquet.write_table(pa.table({"n": [1, 2], "url": names}), source)
    else:
        between = "," if kind == "csv" else "\t"
        Path(source).write_text(
            "\n".join(between.join(row) for row in [("n", "video"), *zip("12", names, strict=True)])
        )
    assert listed(source) == names


def test_relative_paths_are_beside_the_list(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.mp4\nhttps://example.org/b.mp4\n/c.mp4\n")
    assert listed(str(tmp_path / "list.txt")) == [
        str(tmp_path / "a.mp4"),
        "https://example.org/b.mp4",
        "/c.mp4",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "no videos"), ("name,size\na,1\n", "no column"), (None, "no such file"), (b"PAR1", "Parquet")],
)
def test_lists_that_are_none_are_said(text: str | bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / ("list.parquet" if isinstance(text, bytes) else "list.csv" if text else "list.txt")
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=message):
        listed(str(path))


def test_shards_are_all_videos_once() -> None:
    names = [str(number) for number in range(11)]
    parts = [shard_of(names, f"{part}/4") for part in range(4)]
    assert sorted((name for part in parts for name in part), key=int) == names
    assert max(map(len, parts)) - min(map(len, parts)) == 1
    for bad in ("4/4", "1", "-1/4", "a/b", "1/0"):
        with pytest.raises(UserError, match="--shard"):
            shard_of(names, bad)


def test_tables_hold_all_results(videos: list[Path], model: FleetModel, tmp_path: Path) -> None:
    names = [str(videos[0]), "damaged.mp4", str(videos[1])]
    keys = {name: process(name, model, tmp_path).key for name in names[::2]}
    write_tables(tmp_path, names, keys, {"damaged.mp4": "is not a video"})
    about = parquet.read_table(tmp_path / "videos.parquet").to_pylist()
    assert [(one["video"], one["frames"], one["reason"]) for one in about] == [
        (names[0], 4, None),
        ("damaged.mp4", None, "is not a video"),
        (names[2], 4, None),
    ]
    tracks = parquet.read_table(tmp_path / "tracks.parquet").to_pylist()
    frames = parquet.read_table(tmp_path / "frames.parquet").to_pylist()
    for name, key in keys.items():
        found = read_tracks(path_of(tmp_path, key)).tracks
        mine = [one for one in tracks if one["video"] == name]
        assert [(one["id"], one["class"], one["first_frame"]) for one in mine] == [
            (one.id, one.name, one.frames[0]) for one in found
        ]
        masks = [(one["id"], one["frame"], one["counts"]) for one in frames if one["video"] == name]
        assert masks == [(one.id, *seen) for one in found for seen in zip(one.frames, one.masks, strict=True)]
