"""Data sets that want to fill the memory, never to end, or to crash: each command refuses them in a line."""

from __future__ import annotations

import gzip
import io
import json
import math
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import small_set
from bounded import DEVICES, device, ookd, refused
from ookd.data import rle

COMMANDS: dict[str, Callable[[Path], list[object]]] = {
    "check": lambda path: ["data", "check", path],
    "stats": lambda path: ["data", "stats", path],
    "preview": lambda path: ["data", "preview", path, "--out", path.parent / "out"],
    "eval": lambda path: ["eval", "--gt", path, "--pred", path.with_name("none.json")],
    "eval --pred": lambda path: ["eval", "--gt", path.with_name("gt.json"), "--pred", path],
    "predict": lambda path: ["predict", path, "--out", path.parent / "out"],
    "recipe": lambda path: ["train", path.with_suffix(".yaml")],
    "track": lambda path: ["track", path, "--out", path.parent / "out"],
}


def written(tmp_path: Path, change: Callable[[dict[str, Any]], object] = lambda document: None) -> Path:
    """The small set with a change."""
    path = Path(small_set.write_set(tmp_path))
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("kind", DEVICES)
@pytest.mark.parametrize("command", COMMANDS)
def test_devices_are_not_read(command: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / "gt.json").write_text(json.dumps(small_set.document()))
    (tmp_path / "none.json").write_text("[]")
    path = device(tmp_path / ("a.yaml" if command == "recipe" else "a.json"), kind)
    refused(*COMMANDS[command](path), says="is a pipe or a device, not a regular file")


@pytest.mark.parametrize("kind", DEVICES)
def test_frames_that_are_devices(kind: str, tmp_path: Path) -> None:
    path = written(tmp_path)
    frame = next(tmp_path.rglob("00001.png"))
    frame.unlink()
    device(frame, kind)
    refused("data", "check", path, says="is a pipe or a device, not a regular file")


def zigzag(points: int, width: int) -> list[float]:
    """A polygon whose edges are far longer than its frame."""
    return [value for i in range(points) for value in ((i % 2) * width, i % 8)]


ZIGZAG = "more than 2000000 pixels of polygon edges in a mask"


@pytest.mark.parametrize("points", [450, 2_200])
@pytest.mark.parametrize("command", ["check", "preview", "eval"])
def test_polygons_are_measured_before_they_are_drawn(command: str, points: int, tmp_path: Path) -> None:
    def far(document: dict[str, Any]) -> None:
        document["annotations"][0]["segmentations"] = [[zigzag(points, 99_999)]] * 3

    path = written(tmp_path, far)
    path.with_name("none.json").write_text("[]")
    refused(*COMMANDS[command](path), says=ZIGZAG, megabytes=3000 if command == "preview" else 1000)


def test_polygons_of_predictions_are_measured_too(tmp_path: Path) -> None:
    path = written(tmp_path)
    entry = {
        "video_id": 1,
        "category_id": 3,
        "score": 1,
        "segmentations": [[zigzag(450, 99_999)], None, None],
    }
    pred = tmp_path / "pred" / "results.json"
    pred.parent.mkdir()
    pred.write_text(json.dumps([entry]))
    refused("eval", "--gt", path, "--pred", pred, says=ZIGZAG, megabytes=1000)


@pytest.mark.parametrize("points", [30, 300])
def test_fine_outlines_are_still_drawn(points: int) -> None:
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    outline = np.stack([500 + 400 * np.cos(angle), 500 + 400 * np.sin(angle)], 1).ravel().tolist()
    area = rle.area(rle.from_any([outline], 1000, 1000))
    assert area == pytest.approx(points / 2 * 400**2 * math.sin(2 * np.pi / points), rel=0.01)


def many_tracks(document: dict[str, Any]) -> None:
    track = document["annotations"][0]
    document["annotations"] = [{**track, "id": i} for i in range(1, 5_002)]


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "many tracks": (many_tracks, "more than 5000 tracks in a video"),
    "many classes": (
        lambda document: document["categories"].extend({"id": i, "name": f"c{i}"} for i in range(10, 20_012)),
        "more than 20000 classes",
    ),
    "a long class name": (
        lambda document: document["categories"][0].update(name="x" * 10**6),
        "more than 1000 characters",
    ),
    "a class that steers the terminal": (
        lambda document: document["categories"][0].update(name="\x1b]0;x\x07"),
        "cannot be shown",
    ),
    "a class of half a character": (
        lambda document: document["categories"][0].update(name="\ud800"),
        "",
    ),
    "a class that is a list": (
        lambda document: document["categories"][0].update(name=["cat"]),
        "'name' must be a text",
    ),
    "a number of 5000 digits": (
        lambda document: document["videos"][0].update(id=int("7" * 4000)),
        "must",
    ),
    "a frame with a long name": (
        lambda document: document["videos"][0]["file_names"].__setitem__(1, "n" * 300 + ".png"),
        "File name too long",
    ),
    "a frame whose name has a NUL": (
        lambda document: document["videos"][0]["file_names"].__setitem__(1, "a\0.png"),
        "is not a file name",
    ),
    "a frame of half a character": (
        lambda document: document["videos"][0]["file_names"].__setitem__(1, "a\ud800.png"),
        "",
    ),
    "a frame in a folder with a long name": (
        lambda document: document["videos"][0]["file_names"].__setitem__(1, "n" * 300 + "/a.png"),
        "File name too long",
    ),
    "a frame of a video with a number too long": (
        lambda document: document["videos"][0]["file_names"].__setitem__(1, "a.mp4/" + "1" * 200 + ".png"),
        "names no frame of a.mp4",
    ),
    "a wide frame": (
        lambda document: document["videos"][0].update(width=2**17, height=1),
        "more than 65536 pixels along a side",
    ),
    "an area beyond any frame": (
        lambda document: document["annotations"][0].update(areas=[1e308] * 3),
        "must be a number of pixels",
    ),
    "a box beyond any frame": (
        lambda document: document["annotations"][0].update(bboxes=[[0, 0, 1e300, 1e300]] * 3),
        "with finite numbers",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_check_tells_what_is_too_much(name: str, tmp_path: Path) -> None:
    change, says = CHANGES[name]
    refused("data", "check", written(tmp_path, change), says=says)


@pytest.mark.parametrize("name", ["many tracks", "many classes", "a long class name"])
def test_stats_stops_at_what_is_too_much(name: str, tmp_path: Path) -> None:
    change, says = CHANGES[name]
    refused("data", "stats", written(tmp_path, change), says=says)


def test_preview_stops_before_masks_fill_the_memory(tmp_path: Path) -> None:
    def large(document: dict[str, Any]) -> None:
        many_tracks(document)
        del document["annotations"][2000:]
        video = document["videos"][0]
        video.update(width=1280, height=720)
        mask = {"size": [720, 1280], "counts": [0, 720 * 1280]}
        for track in document["annotations"]:
            track["segmentations"] = [mask] * 3

    path = written(tmp_path, large)
    refused(*COMMANDS["preview"](path), says="pixels of masks at once", megabytes=4000)


def test_many_predictions_for_one_video(tmp_path: Path) -> None:
    path = written(tmp_path)
    entry = {"video_id": 1, "category_id": 3, "score": 1, "segmentations": [None, None, None]}
    pred = tmp_path / "pred.json"
    pred.write_text(json.dumps([entry] * 100_000))
    refused(
        "eval", "--gt", path, "--pred", pred, says="more than 10000 predictions for a video", megabytes=1000
    )


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"score": 10**400}, "is not a finite number"),
        ({"score": float("nan")}, "is not a finite number"),
        ({"category_id": [3]}, "is not in the ground truth"),
        ({"category_id": {"id": 3}}, "is not in the ground truth"),
        ({"category_id": 10**400}, "is not in the ground truth"),
        ({"video_id": [1]}, "is not a whole number"),
        ({"segmentations": {"size": [8, 12]}}, "segmentations is not a list"),
        ({"segmentations": [{"size": [8, 12], "counts": [2**40]}, None, None]}, "run"),
        ({"segmentations": [{"size": [2**40, 12], "counts": "0"}, None, None]}, "size"),
    ],
)
def test_odd_predictions_are_one_line(entry: dict[str, Any], says: str, tmp_path: Path) -> None:
    path = written(tmp_path)
    usual = {"video_id": 1, "category_id": 3, "score": 1, "segmentations": [None, None, None]}
    pred = tmp_path / "pred.json"
    pred.write_text(json.dumps([usual | entry]))
    refused("eval", "--gt", path, "--pred", pred, says=says)


@pytest.mark.parametrize("size", [[1, 2**29], [2**29, 1], [2**20, 1]])
def test_quirks_do_not_make_huge_masks(size: list[int], tmp_path: Path) -> None:
    path = written(tmp_path)
    mask = {"size": size, "counts": [0, size[0] * size[1]]}
    entry = {"video_id": 1, "category_id": 3, "score": 1, "segmentations": [mask, None, None]}
    pred = tmp_path / "pred.json"
    pred.write_text(json.dumps([entry]))
    refused("eval", "--gt", path, "--pred", pred, "--official-quirks", says="the mask has more than")


def zip_bomb(path: Path, size: int = 600 << 20) -> None:
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a/00000.png", "w") as file,
    ):
        for _ in range(size >> 20):
            file.write(bytes(1 << 20))


def tar_bomb(path: Path, size: int = 600 << 20) -> None:
    info = tarfile.TarInfo("a/00000.png")
    info.size = size
    with gzip.open(path, "wb", 9) as file:
        file.write(info.tobuf())
        for _ in range(size >> 20):
            file.write(bytes(1 << 20))


def cut(path: Path, name: str) -> None:
    """An archive whose stream is damaged in the middle."""
    content = bytearray(np.random.default_rng(0).integers(0, 9, 60_000, dtype=np.uint8).tobytes())
    if name == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a/00000.png", bytes(content))
    else:
        with tarfile.open(path, f"w:{name}") as archive:
            info = tarfile.TarInfo("a/00000.png")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(bytes(content)))
    whole = bytearray(path.read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 200] = np.random.default_rng(1).bytes(200)
    path.write_bytes(whole)


ARCHIVES: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "zip bomb": ("f.zip", zip_bomb, "more than 268435456 bytes in an unpacked file"),
    "tar.gz bomb": ("f.tar.gz", tar_bomb, "more than 200 times the size of its archive"),
    "damaged zip": ("f.zip", lambda path: cut(path, "zip"), "cannot be read"),
    "damaged gz": ("f.tar.gz", lambda path: cut(path, "gz"), "cannot be read"),
    "damaged xz": ("f.tar.xz", lambda path: cut(path, "xz"), "cannot be read"),
    "damaged bz2": ("f.tar.bz2", lambda path: cut(path, "bz2"), "cannot be read"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_that_burst_or_break(name: str, tmp_path: Path) -> None:
    file, make, says = ARCHIVES[name]
    path = written(tmp_path)
    make(tmp_path / file)
    refused("data", "check", path, "--frames", tmp_path / file, says=says, megabytes=1000)


@pytest.mark.parametrize("kind", ["pipe", "/dev/zero"])
@pytest.mark.parametrize("file", ["f.zip", "f.tar.gz"])
def test_archives_that_are_devices(file: str, kind: str, tmp_path: Path) -> None:
    path = written(tmp_path)
    device(tmp_path / file, kind)
    refused("data", "check", path, "--frames", tmp_path / file, says="no")


def labels(folder: Path, values: np.ndarray) -> Path:
    (folder / "instances" / "v").mkdir(parents=True)
    Image.fromarray(values).save(folder / "instances" / "v" / "000000.png")
    return folder


def test_noise_is_no_label_image(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 2**16, (720, 1280)).astype(np.uint16)
    refused(
        "data",
        "check",
        labels(tmp_path, noise),
        says="more than 2000 values in a label image",
        megabytes=1000,
    )


def test_labels_of_32_bits_do_not_wrap(tmp_path: Path) -> None:
    Image.init()
    folder = tmp_path / "instances" / "v"
    folder.mkdir(parents=True)
    values = np.full((8, 12), 2**16 + 1001, np.int32)
    Image.fromarray(values, "I").save(folder / "000000.tif")
    (folder / "000000.tif").rename(folder / "000000.png")  # the content decides, not the name
    refused("data", "check", tmp_path, says="labels have 16 bits")


def test_a_device_is_no_label_image(tmp_path: Path) -> None:
    (tmp_path / "instances" / "v").mkdir(parents=True)
    device(tmp_path / "instances" / "v" / "000000.png", "/dev/zero")
    refused("data", "check", tmp_path, says="is a pipe or a device")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("²", "no such file"),
        ("9" * 5000, "cannot be read: File name too long"),
        ("http://[::1/a.mp4", "is not an address"),
        ("http://a]b/c", "is not an address"),
        ("n" * 300 + ".mp4", "File name too long"),
        ("a\ud800b.mp4", "a\\ud800b.mp4"),
    ],
)
def test_sources_that_cannot_be(source: str, says: str, tmp_path: Path) -> None:
    from ookd.cli import main  # a surrogate cannot be handed to another process

    assert main(["track", source, "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("start", ["9" * 5000, "1" * 400 + "s", "²", "1:" + "9" * 400, "-1"])
def test_places_that_cannot_be(start: str, tmp_path: Path) -> None:
    refused("track", "a.mp4", "--start", start, "--out", tmp_path / "out", says="is not a place in a video")


def test_images_whose_names_hold_odd_digits(tmp_path: Path) -> None:
    for name in ("a²", "a10", "a" + "9" * 200):
        Image.new("RGB", (12, 8)).save(tmp_path / f"{name}.png")
    from ookd.data.video import open_source

    with open_source(tmp_path) as source:
        assert sum(1 for _ in source) == 3


def test_a_recipe_of_aliases(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
    )
    (tmp_path / "a.yaml").write_text(bomb)
    refused("train", tmp_path / "a.yaml", says="more than 100000 values in a YAML file", megabytes=4000)
    refused("data", "check", tmp_path / "a.yaml", says="more than 100000 values in a YAML file")


@pytest.mark.parametrize(
    "change",
    [
        "run.threads=100000",
        "run.seed=4294967296",
        "run.steps=0x_",
        "data.augment.sides=[0]",
        "data.train.²=1",
        "run.steps=" + "7" * 5000,
        "optim.lr=2001-99-99",
    ],
)
def test_recipes_beyond_their_ranges(change: str, tmp_path: Path) -> None:
    refused("train", "nano", "--set", change, "--out", tmp_path / "out", says="", megabytes=4000)
    assert not (tmp_path / "out").exists()


def test_ordinary_data_stay_readable(tmp_path: Path) -> None:
    done = ookd("data", "check", written(tmp_path))
    assert done.returncode == 0, done.stdout
