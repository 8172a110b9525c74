"""YTVIS and OVIS JSON: read, refused with a reason, written back equal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ookd.data.formats import load, save_ytvis
from ookd.errors import UserError

DOCUMENT: dict[str, Any] = {
    "info": {"year": 2021},
    "licenses": [],
    "categories": [{"id": 7, "name": "cat", "supercategory": "animal"}, {"id": 2, "name": "dog"}],
    "videos": [
        {"id": 5, "width": 4, "height": 3, "length": 2, "file_names": ["a/0.png", "a/1.png"], "license": 1},
        {"id": 9, "width": 4, "height": 3, "length": 1, "file_names": ["b/0.png"]},
    ],
    "annotations": [
        {
            "id": 1,
            "video_id": 5,
            "category_id": 2,
            "iscrowd": 0,
            "segmentations": [None, {"size": [3, 4], "counts": [3, 3, 6]}],
            "bboxes": [None, [1.0, 0.0, 1.0, 3.0]],
            "areas": [None, 3],
            "width": 4,
            "height": 3,
            "occlusion": ["no_occlusion", "severe_occlusion"],
        }
    ],
}


def write(folder: Path, document: Any) -> Path:
    path = folder / "instances.json"
    path.write_text(json.dumps(document))
    return path


def test_reads_videos_tracks_and_what_the_format_adds(tmp_path: Path) -> None:
    dataset = load(write(tmp_path, DOCUMENT))
    assert [category.name for category in dataset.categories] == ["cat", "dog"]
    assert dataset.label_of() == {7: 0, 2: 1}
    video, empty = dataset.videos
    assert (video.id, video.width, video.height, video.length, empty.tracks) == (5, 4, 3, 2, [])
    (track,) = video.tracks
    assert (track.id, track.category_id, track.iscrowd) == (1, 2, False)
    assert track.boxes_xywh == [None, [1.0, 0.0, 1.0, 3.0]]
    assert track.extra["occlusion"] == ["no_occlusion", "severe_occlusion"]


def test_written_back_equal(tmp_path: Path) -> None:
    save_ytvis(load(write(tmp_path, DOCUMENT)), tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text()) == DOCUMENT


def test_real_set_is_written_back_equal(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "davis240" / "instances_val.json"
    save_ytvis(load(source), tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text()) == json.loads(source.read_text())


def test_never_overwrites_unasked(tmp_path: Path) -> None:
    path = write(tmp_path, DOCUMENT)
    before = path.read_bytes()
    with pytest.raises(UserError, match="exists"):
        save_ytvis(load(path), path)
    assert path.read_bytes() == before
    save_ytvis(load(path), path, overwrite=True)
    assert [file.name for file in tmp_path.iterdir()] == ["instances.json"]


def test_boxes_and_areas_left_out_are_measured_from_the_masks(tmp_path: Path) -> None:
    document = json.loads(json.dumps(DOCUMENT))
    del document["annotations"][0]["bboxes"], document["annotations"][0]["areas"]
    (track,) = load(write(tmp_path, document)).videos[0].tracks
    assert track.boxes_xywh == [None, [1.0, 0.0, 1.0, 3.0]]
    assert track.areas == [None, 3]


def test_a_test_set_has_no_annotations(tmp_path: Path) -> None:
    for none in ({}, {"annotations": None}):
        document = {"categories": DOCUMENT["categories"], "videos": DOCUMENT["videos"], **none}
        assert [video.tracks for video in load(write(tmp_path, document)).videos] == [[], []]


def test_loading_stops_at_the_first_problem_and_names_the_place(tmp_path: Path) -> None:
    document = json.loads(json.dumps(DOCUMENT))
    document["annotations"][0]["bboxes"][1] = [1, 2, "3", 4]
    path = write(tmp_path, document)
    with pytest.raises(UserError) as caught:
        load(path)
    assert str(caught.value) == (
        f"{path}: video 5, annotation 1, frame 1: "
        "box [1, 2, '3', 4] must be [x, y, width, height] with finite numbers, or null"
    )
