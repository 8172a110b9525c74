"""COCO JSON: single images, and frames that labelling tools marked with track ids."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from pycocotools.coco import COCO

import small_set
from ookd.data.convert import convert
from ookd.data.formats import load
from ookd.data.formats.coco import to_document
from ookd.errors import UserError

SQUARE = [[1, 1, 3, 1, 3, 3, 1, 3]]


def image(number: int, name: str, **more: Any) -> dict[str, Any]:
    return {"id": number, "width": 8, "height": 6, "file_name": name, **more}


def mask(number: int, image_id: int, **more: Any) -> dict[str, Any]:
    fields = {"category_id": 1, "segmentation": SQUARE, "bbox": [1, 1, 2, 2], "area": 4.0, "iscrowd": 0}
    return {"id": number, "image_id": image_id, **fields, **more}


def write(folder: Path, images: list[Any], annotations: list[Any], **more: Any) -> Path:
    categories = [{"id": 1, "name": "cat"}]
    path = folder / "instances.json"
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories, **more})
    )
    return path


def test_images_become_videos_of_one_frame(tmp_path: Path) -> None:
    images = [image(7, "b.jpg", license=3), image(4, "a.jpg")]
    dataset = load(write(tmp_path, images, [mask(1, 4), mask(2, 7, iscrowd=1)]))
    assert [(video.id, video.file_names) for video in dataset.videos] == [(7, ["b.jpg"]), (4, ["a.jpg"])]
    assert [[track.iscrowd for track in video.tracks] for video in dataset.videos] == [[True], [False]]
    assert dataset.videos[0].tracks[0].segmentations == [SQUARE]


def test_real_images_are_written_back_equal(real_data: Path) -> None:
    source = real_data / "coco128" / "instances_train2017.json"
    original, again = json.loads(source.read_text()), to_document(load(source))
    assert again.keys() == original.keys()
    for key in original:
        if key == "annotations":
            by_id = {item["id"]: item for item in again[key]}
            assert len(by_id) == 900
            assert all(by_id[item["id"]] == item for item in original[key])
        else:
            assert again[key] == original[key]


def test_the_reference_reader_sees_the_same_masks(tmp_path: Path) -> None:
    convert(load(small_set.write_set(tmp_path / "source")), tmp_path / "coco", "coco")
    with contextlib.redirect_stdout(None):
        reference = COCO(str(tmp_path / "coco" / "instances.json"))
    annotations = reference.loadAnns(reference.getAnnIds())
    assert sorted(int(reference.annToMask(item).sum()) for item in annotations) == [4, 4, 12, 12, 12, 32]
    assert {item["name"] for item in reference.loadCats(reference.getCatIds())} == {"cat", "dog"}
    assert all(
        (tmp_path / "coco/frames" / item["file_name"]).is_file() for item in reference.loadImgs([1, 2, 3, 4])
    )


@pytest.mark.parametrize("how", ["track_id", "instance_id", "attributes"])
def test_track_ids_make_videos_of_folders_in_natural_order(how: str, tmp_path: Path) -> None:
    def tracked(number: int, image_id: int, track: int) -> dict[str, Any]:
        return mask(number, image_id, **({how: {"track_id": track}} if how == "attributes" else {how: track}))

    images = [image(1, "x/f10.jpg"), image(2, "x/f9.jpg"), image(3, "y/f1.jpg")]
    dataset = load(write(tmp_path, images, [tracked(1, 1, 5), tracked(2, 2, 5), tracked(3, 3, 5)]))
    x, y = dataset.videos
    assert (x.file_names, y.file_names) == (["x/f9.jpg", "x/f10.jpg"], ["y/f1.jpg"])
    assert [len(video.tracks) for video in (x, y)] == [1, 1]  # an id counts within its video
    assert x.tracks[0].segmentations == [SQUARE, SQUARE]
    assert x.tracks[0].id != y.tracks[0].id


def test_cocovid_says_which_video_and_frame(tmp_path: Path) -> None:
    images = [image(1, "p.jpg", video_id=3, frame_id=1), image(2, "q.jpg", video_id=3, frame_id=0)]
    videos = [{"id": 3, "name": "street"}]
    path = write(tmp_path, images, [mask(1, 2, instance_id=8), mask(2, 1)], videos=videos)
    (video,) = load(path).videos
    assert (video.id, video.extra["name"], video.file_names) == (3, "street", ["q.jpg", "p.jpg"])
    assert [track.segmentations for track in video.tracks] == [[SQUARE, None], [None, SQUARE]]


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        (
            [mask(1, 1, track_id=1), mask(2, 1, track_id=1)],
            "annotation 2: track 1 has two masks in one image",
        ),
        ([mask(1, 1, track_id=1), mask(2, 2, track_id=1, category_id=2)], "track 1 changes its category"),
        ([mask(1, 9)], "annotation 1: 'image_id' 9 is not the id of a readable image"),
        ([mask(1, 1, segmentation=[])], "'segmentation' must be an RLE or a list of polygons"),
    ],
)
def test_what_cannot_be_is_refused(annotations: list[Any], message: str, tmp_path: Path) -> None:
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    path = write(tmp_path, [image(1, "a.jpg"), image(2, "b.jpg")], annotations, categories=categories)
    with pytest.raises(UserError, match=message):
        load(path)


def test_frames_of_one_video_have_one_size(tmp_path: Path) -> None:
    images = [image(1, "a.jpg"), image(2, "b.jpg", width=9)]
    with pytest.raises(UserError, match="image 2: is 9 x 6, but its video starts with 8 x 6"):
        load(write(tmp_path, images, [mask(1, 1, track_id=1)]))
