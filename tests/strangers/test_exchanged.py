"""What other tools export, changed by hand: CVAT, Label Studio, FiftyOne, YOLO, DAVIS and MOTS."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import small_set
from ookd.data.formats import find, read
from ookd.data.formats.problems import Problem
from strangers.trying import tried

Change = Callable[[Path], object]


# --- CVAT --------------------------------------------------------------------------------------------------


def cvat(tracks: str, size: object = 3, name: str = "a") -> Change:
    text = f"""<?xml version="1.0" encoding="utf-8"?>
      <annotations><meta><task><name>{name}</name><size>{size}</size><original_size><width>12</width><height>8</height></original_size></task></meta>{tracks}</annotations>"""
    return lambda folder: (folder / "a.xml").write_text(text)


def track(points: str, frame: object = 0, label: str = "cat", id: object = 0) -> str:
    shape = f'<polygon frame="{frame}" outside="0" points="{points}"/>'
    return f'<track id="{id}" label="{label}">{shape}</track>'


SQUARE = "1,1;6,1;6,6;1,6"
MANY = "".join(track(SQUARE, id=n) for n in range(300))
DEEP = f"<a>{'<b>' * 50_000}{'</b>' * 50_000}</a>"

CVATS: dict[str, tuple[Change, str | None]] = {
    "points that are no numbers": (cvat(track("1,1;nan,1;6,6")), "coordinates are numbers"),
    "points without end": (cvat(track("1,1;inf,1;6,6")), "coordinates are numbers"),
    "points of three numbers": (cvat(track("1,1,1;6,1,1;6,6,1;1,6,1;2,2,2;3,3,3")), "cannot be read"),
    "points in other digits": (cvat(track("١,١;٦,١;٦,٦;١,٦")), None),
    "a frame in other digits": (cvat(track(SQUARE, frame="１")), "has no frame"),
    "300 tracks of two million frames": (cvat(MANY, size=2_000_000), "more than 20000000 frames of tracks"),
    "deep tags": (cvat(DEEP), None),
    "an encoding that nobody has": (
        lambda folder: (folder / "a.xml").write_bytes(
            b"<?xml version='1.0' encoding='klingon'?><annotations/>"
        ),
        "is not valid XML",
    ),
    "two roots": (
        lambda folder: (folder / "a.xml").write_text("<annotations/><annotations/>"),
        "is not valid XML",
    ),
    "a name that climbs": (cvat(track(SQUARE), name="../../../x"), None),
    "a class that is a tag": (cvat(track(SQUARE, label="&lt;script&gt;")), None),
    "run lengths of another size": (
        cvat(
            '<track id="0" label="cat"><mask frame="0" rle="99999999999999999999,1" left="0" '
            'top="0" width="3" height="3"/></track>'
        ),
        "cannot be read",
    ),
}


# --- Label Studio ------------------------------------------------------------------------------------------


def region(**changes: Any) -> dict[str, Any]:
    value = {"points": [[10, 10], [50, 10], [50, 50]], "polygonlabels": ["cat"]}
    return {"type": "polygonlabels", "original_width": 12, "original_height": 8, "value": value} | changes


def task(image: Any = "a/0.png", result: Any = None, **data: Any) -> dict[str, Any]:
    return {
        "data": {"image": image, **data},
        "annotations": [{"result": [region()] if result is None else result}],
    }


def studio(*tasks: Any) -> Change:
    return lambda folder: (folder / "a.json").write_text(json.dumps(list(tasks)))


def valued(**value: Any) -> dict[str, Any]:
    return region(value=region()["value"] | value)


STUDIOS: dict[str, tuple[Change, str | None]] = {
    "an address that is none": (studio(task("http://[::1/a.png")), "its image is not an address"),
    "two addresses of one image": (studio(task("a/0.png"), task("/data/a/0.png")), "same image"),
    "a size with a point": (studio(task(result=[region(original_width=12.5)])), "size of the frames"),
    "a size beyond all": (studio(task(result=[region(original_width=10**12)])), "pixels in a frame"),
    "a size of true": (studio(task(result=[region(original_width=True)])), "size of the frames"),
    "points of texts": (studio(task(result=[valued(points=[["1", "2"]] * 3)])), "is no polygon"),
    "a point of one number": (studio(task(result=[valued(points=[[1], [2], [3]])])), "is no polygon"),
    "classes in a list of lists": (studio(task(result=[valued(polygonlabels=[["cat"]])])), "is no polygon"),
    "frames that are texts": (
        studio(task(frame="1e3", video="v"), task("a/1.png", frame=[], video="v")),
        None,
    ),
    "tasks in a list of lists": (
        lambda folder: (folder / "a.json").write_text('[["annotations", {"annotations": []}]]'),
        "task 0: its data have no 'image'",
    ),
}


# --- FiftyOne ----------------------------------------------------------------------------------------------


def npy(header: str, content: bytes = bytes(64), version: bytes = b"\1\0") -> str:
    """An array as FiftyOne writes it, with a header of one's own."""
    length = len(header).to_bytes(2 if version == b"\1\0" else 4, "little")
    return base64.b64encode(
        zlib.compress(b"\x93NUMPY" + version + length + header.encode("latin-1") + content)
    ).decode()


def array(dtype: str = "'|b1'", shape: str = "(8, 8)") -> str:
    return f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}\n"


def found(**changes: Any) -> dict[str, Any]:
    return {"label": "cat", "index": 1, "bounding_box": [0, 0, 0.5, 0.5], "mask": npy(array())} | changes


def fifty(*labels: Any, frames: Any = None, meta: dict[str, Any] | None = None) -> Change:
    size = {"frame_width": 12, "frame_height": 8, "total_frame_count": 3} | (meta or {})
    shown = {"1": {"objects": {"detections": list(labels)}}} if frames is None else frames
    sample = {"filepath": "a.mp4", "metadata": size, "frames": shown}
    return lambda folder: (folder / "samples.json").write_text(json.dumps({"samples": [sample]}))


UNREADABLE = "neither 'points' nor a 'mask' that can be read"
FIFTIES: dict[str, tuple[Change, str | None]] = {
    "a header left open": (fifty(found(mask=npy("("))), UNREADABLE),
    "a header that calls": (fifty(found(mask=npy("__import__('os').system('touch mine')\n"))), UNREADABLE),
    "a deep header": (fifty(found(mask=npy("(" * 5000 + ")" * 5000))), UNREADABLE),
    "objects in the array": (fifty(found(mask=npy(array("'|O'")))), UNREADABLE),
    "records in the array": (fifty(found(mask=npy(array("[('a', '<i4'), ('b', '|O')]")))), UNREADABLE),
    "a shape below zero": (fifty(found(mask=npy(array(shape="(-1, 8)")))), UNREADABLE),
    "a shape beyond all": (fifty(found(mask=npy(array(shape="(4294967296, 4294967296)")))), UNREADABLE),
    "a strip of 100,000": (fifty(found(mask=npy(array(shape="(1, 100000)"), bytes([1]) * 100_000))), None),
    "a version that is none": (fifty(found(mask=npy(array(), version=b"\t\t"))), UNREADABLE),
    "numbers of no size": (fifty(found(mask=npy(array("'V0'")))), UNREADABLE),
    "a box beyond the frame": (fifty(found(bounding_box=[0.9, 0.9, 1e15, 1e15])), None),
    "500 objects in two million frames": (
        fifty(*(found(index=n) for n in range(500)), meta={"total_frame_count": 2_000_000}),
        "more than 20000000 frames of tracks",
    ),
    "an index of true": (fifty(found(index=True)), "an object needs"),
}


# --- YOLO, DAVIS and MOTS ----------------------------------------------------------------------------------


def yolo(line: str, **described: Any) -> Change:
    def make(folder: Path) -> None:
        for name in ("images", "labels"):
            (folder / name).mkdir()
        Image.new("RGB", (1200, 800)).save(folder / "images" / "0.png")
        (folder / "labels" / "0.txt").write_text(line, encoding="utf-8")
        what = {"path": ".", "train": "images", "names": ["cat"]} | described
        (folder / "data.yaml").write_text(yaml.safe_dump(what))

    return make


def painted(values: Any, kind: str = "Annotations", meta: str | None = None) -> Change:
    def make(folder: Path) -> None:
        (folder / kind / "v").mkdir(parents=True)
        Image.fromarray(np.array(values)).save(folder / kind / "v" / "00000.png")
        if meta is not None:
            (folder / "meta.json").write_text(meta)

    return make


TRIANGLE = "0 0.1 0.1 0.9 0.1 0.5 0.9"
SPOT = np.pad(np.ones((2, 2), np.uint8), 3)
OTHERS: dict[str, tuple[Change, str | None]] = {
    "coordinates that are no numbers": (yolo("0 nan nan 0.9 0.1 0.5 0.9"), "fractions"),
    "a class of thousands of digits": (yolo("9" * 5000 + TRIANGLE[1:]), "must be a class number"),
    "a class with a line below": (yolo(TRIANGLE.replace("0 ", "0_0 ", 1)), "must be a class number"),
    "coordinates with lines below": (yolo("0 0.1 0.1 0.9 0.1 0.5 0.9_0"), "followed by numbers"),
    "a polygon of 20,000 points": (yolo("0" + " 0.1 0.1 0.9 0.9" * 10_000), "pixels of polygon edges"),
    "names numbered from true": (yolo(TRIANGLE, names={False: "cat", True: "dog"}), None),
    "names numbered from a point": (yolo(TRIANGLE, names={0.0: "cat"}), None),
    "a split above the folder": (
        yolo(TRIANGLE, train="../" * 40 + "etc"),
        "etc: holds no annotations",
    ),
    "a split that is itself": (yolo(TRIANGLE, train="data.yaml"), "data.yaml: holds no annotations"),
    "a picture of colours as labels": (painted(np.dstack([SPOT] * 3)), "labels need a palette"),
    "labels whose list is a number": (
        painted(SPOT, meta='{"videos": 7}'),
        "meta.json: must be an object with 'videos'",
    ),
    "labels whose object is a list": (
        painted(SPOT, meta='{"videos": {"v": {"objects": {"1": {"category": ["cat"]}}}}}'),
        "meta.json: video v, object 1: must be",
    ),
    "labels of an object of thousands of digits": (
        painted(
            SPOT, meta=f'{{"videos": {{"v": {{"objects": {{"{"9" * 5000}": {{"category": "cat"}}}}}}}}}}'
        ),
        "meta.json: video v, object 9+",
    ),
    "no class of this number": (painted(SPOT.astype(np.uint16) * 65_535, "instances"), None),
}


@pytest.mark.parametrize("name", CVATS | STUDIOS | FIFTIES | OTHERS)
def test_exports_changed_by_hand(name: str, tmp_path: Path) -> None:
    """They are refused in a line or, what nobody knows to be wrong, converted."""
    make, says = (CVATS | STUDIOS | FIFTIES | OTHERS)[name]

    def command(folder: Path) -> list[object]:
        (folder / "in").mkdir()
        make(folder / "in")
        return ["data", "convert", "in", "--to", "ytvis", "--annotations-only", "--out", "out"]

    tried(command, tmp_path, says)


def test_thousands_of_samples_of_two_million_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames that are too many are counted, not made: this would take an hour."""
    monkeypatch.setenv("OOKD_MAX_FRAMES", "100000")
    size = {"frame_width": 12, "frame_height": 8, "total_frame_count": 2_000_000}
    samples = [{"filepath": f"{n}.mp4", "metadata": size, "frames": {}} for n in range(3000)]
    (tmp_path / "samples.json").write_text(json.dumps({"samples": samples}))
    (source,) = find(tmp_path)
    told: list[Problem] = []
    assert read(source, told.append) is None
    assert sum("more than 100000 frames in a data set" in str(problem) for problem in told) == 3000


def test_a_row_of_links(tmp_path: Path) -> None:
    """Labels that lead out of their folder are read as what they are: no labels."""

    def command(folder: Path) -> list[object]:
        small_set.write_set(folder)
        (folder / "train.json").symlink_to("/etc/passwd")
        return ["data", "check", "train.json"]

    assert "root" not in tried(command, tmp_path, "train.json: line 1, column 1: is not valid JSON").err
