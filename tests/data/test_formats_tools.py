"""Exports of CVAT, Label Studio and FiftyOne: there and back, and as these tools write them."""

from __future__ import annotations

import base64
import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small_set
from ookd.cli import main
from ookd.data import rle
from ookd.data.convert import convert
from ookd.data.formats import find, load
from ookd.errors import UserError
from ookd.structures import Dataset, Track


def masks(dataset: Dataset) -> list[list[tuple[str, list[Any]]]]:
    """Class and pixels of the tracks of each video."""
    names = {category.id: category.name for category in dataset.categories}

    def pixels(track: Track, height: int, width: int) -> list[Any]:
        return [
            None if mask is None else rle.decode(rle.from_any(mask, height, width)).tolist()
            for mask in track.segmentations
        ]

    return [
        [(names[track.category_id], pixels(track, video.height, video.width)) for track in video.tracks]
        for video in sorted(dataset.videos, key=lambda video: -video.length)
    ]


@pytest.mark.parametrize("name", ["cvat", "label-studio", "fiftyone"])
@pytest.mark.parametrize("frames", [True, False])
def test_there_and_back(name: str, frames: bool, tmp_path: Path) -> None:
    """A ring-shaped object, one that is gone for a frame, two videos of different lengths."""
    source = load(small_set.write_set(tmp_path / "source"))
    convert(source, tmp_path / "out", name, frames=frames)
    assert [found.format.name for found in find(tmp_path / "out")] == [name]
    back = load(tmp_path / "out")
    assert masks(back) == masks(source)
    if frames:
        assert main(["data", "check", str(tmp_path / "out")]) == 0


SHAPE = 'keyframe="1" occluded="0" z_order="0"'
CORNERS = 'points="1.00,1.00;5.00,1.00;5.00,4.00;1.00,4.00"'
CVAT = f"""<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><name>street</name><size>3</size>
<labels><label><name>car</name></label></labels>
<original_size><width>12</width><height>8</height></original_size>
<source>street.mp4</source></task></meta>
<track id="0" label="car" source="manual">
<polygon frame="0" outside="0" {SHAPE} {CORNERS}/>
<polygon frame="1" outside="1" {SHAPE} {CORNERS}/>
<mask frame="2" outside="0" {SHAPE} rle="1, 2, 1" left="3" top="2" width="2" height="2"/>
</track></annotations>
"""


def test_as_cvat_exports_it(tmp_path: Path) -> None:
    file = tmp_path / "annotations.xml"
    file.write_text(CVAT)
    dataset = load(file)
    (video,) = dataset.videos
    assert video.file_names == ["street.mp4/0", "street.mp4/1", "street.mp4/2"]
    (track,) = video.tracks
    assert track.boxes_xywh == [[1, 1, 4, 3], None, [3, 2, 2, 2]]
    drawn = rle.decode(rle.from_any(track.segmentations[2], 8, 12))
    assert np.argwhere(drawn).tolist() == [[2, 4], [3, 3]]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('<polygon frame="0"', '<box frame="0"', "track 0, frame 0: <box> is no mask; draw polygons"),
        ('points="1.00,1.00;5', 'points="1.00;5', "the points of its <polygon> cannot be read"),
        ('frame="2"', 'frame="7"', "frame 7 is not one of the video's 3"),
        ('rle="1, 2, 1"', 'rle="1, 2, 9"', "the points of its <mask> cannot be read"),
        ("<size>3</size>", "", "needs <size>"),
        ("</annotations>", "", "is not valid XML"),
        ("<annotations>", '<!DOCTYPE a [<!ENTITY b "c">]><annotations>', "defines entities"),
        ("<track id", '<image id="1"/><track id', "export as 'CVAT for video 1.1'"),
    ],
)
def test_bad_cvat_files_are_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = CVAT.replace(old, new, 1)
    assert text != CVAT
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(UserError) as caught:
        load(tmp_path / "a.xml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def region(points: list[list[float]], label: str = "car", **more: Any) -> dict[str, Any]:
    value = {"points": points, "closed": True, "polygonlabels": [label]}
    return {"type": "polygonlabels", "original_width": 12, "original_height": 8, "value": value, **more}


def test_as_label_studio_exports_it(tmp_path: Path) -> None:
    """Uploaded images, a cancelled annotation, regions without a track, one with."""
    half = [[0, 0], [50, 0], [50, 100], [0, 100]]
    tasks = [
        {
            "id": n,
            "data": {"image": f"/data/upload/1/walk/{n}.png"},
            "annotations": [
                {"was_cancelled": True, "result": []},
                {"result": [region(half), region(half, meta={"text": ["track a"]})]},
            ],
        }
        for n in range(2)
    ]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    (video,) = load(tmp_path / "export.json").videos
    assert video.file_names == ["upload/1/walk/0.png", "upload/1/walk/1.png"]
    seen = [[box is not None for box in track.boxes_xywh] for track in video.tracks]
    assert sorted(seen) == [[False, True], [True, False], [True, True]]
    assert video.tracks[0].boxes_xywh[0] == [0, 0, 6, 8]


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"data": {"video": "a.mp4"}, "annotations": []}, "video tasks hold rectangles, not masks"),
        ({"data": {"image": "v/a.png"}, "annotations": []}, "no region gives the size of the frames"),
        (
            {"data": {"image": "v/a.png"}, "annotations": [{"result": [region([], type="rectanglelabels")]}]},
            "a region of type 'rectanglelabels' is no polygon",
        ),
        (
            {"data": {"image": "v/a.png"}, "annotations": [{"result": [region([[0, 0], [1, 1]])]}]},
            "at least three points",
        ),
    ],
)
def test_bad_label_studio_files_are_one_line(tmp_path: Path, task: Any, message: str) -> None:
    (tmp_path / "export.json").write_text(json.dumps([task]))
    with pytest.raises(UserError, match=message):
        load(tmp_path / "export.json")


def packed(array: Any) -> str:
    """As FiftyOne writes a mask."""
    with io.BytesIO() as file:
        np.save(file, array)
        return base64.b64encode(zlib.compress(file.getvalue())).decode()


def sample(*objects: dict[str, Any]) -> dict[str, Any]:
    meta = {"frame_width": 12, "frame_height": 8, "total_frame_count": 2}
    frame = {"frame_number": 2, "found": {"_cls": "Detections", "detections": list(objects)}}
    return {"samples": [{"filepath": "street.mp4", "metadata": meta, "frames": {"2": frame}}]}


def test_as_fiftyone_exports_it(tmp_path: Path) -> None:
    mask = np.array([[1, 0], [1, 1]], bool)
    found = {"label": "car", "index": 4, "bounding_box": [0.25, 0.25, 1 / 6, 0.25], "mask": packed(mask)}
    (tmp_path / "samples.json").write_text(json.dumps(sample(found)))
    (video,) = load(tmp_path).videos
    assert video.file_names == ["street.mp4/0", "street.mp4/1"]
    (track,) = video.tracks
    assert track.segmentations[0] is None
    drawn = rle.decode(rle.from_any(track.segmentations[1], 8, 12))
    assert np.argwhere(drawn).tolist() == [[2, 3], [3, 3], [3, 4]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"index": None}, "an object needs a 'label' and an 'index'"),
        ({"mask": "AAAA"}, "neither 'points' nor a 'mask' that can be read"),
        ({"mask": packed(np.zeros((2, 2)))}, "neither 'points' nor a 'mask'"),
        ({"mask": packed(np.zeros((0, 2), bool))}, "neither 'points' nor a 'mask'"),
        ({"points": [[[0, 0], [1, "x"]]]}, "neither 'points' nor a 'mask'"),
    ],
)
def test_bad_fiftyone_files_are_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    found = {"label": "car", "index": 4, "bounding_box": [0, 0, 1, 1], "mask": packed(np.ones((2, 2), bool))}
    (tmp_path / "samples.json").write_text(json.dumps(sample({**found, **change})))
    with pytest.raises(UserError, match=message):
        load(tmp_path)
