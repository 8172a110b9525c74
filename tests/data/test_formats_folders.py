"""From one format into another and back: the same masks, classes and identities, if it holds them."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

import small_set
from ookd.data import rle
from ookd.data.convert import convert
from ookd.data.formats import find, load
from ookd.data.formats.rings import joined, outlines
from ookd.data.frames import read_frame, video_name
from ookd.data.video import VideoWriter
from ookd.errors import UserError
from ookd.structures import Category, Dataset, Video

VIDEO_FORMATS = ("ytvis", "coco", "davis", "mots")


def content(dataset: Dataset) -> dict[tuple[str, str], list[list[Any]]]:
    """(video, class) -> per track the mask of each frame, in an order that does not depend on ids."""
    names = {category.id: category.name for category in dataset.categories}
    found: dict[tuple[str, str], list[list[Any]]] = defaultdict(list)
    for video in dataset.videos:
        for track in video.tracks:
            masks = [
                None if mask is None else rle.from_any(mask, video.height, video.width)["counts"]
                for mask in track.segmentations
            ]
            found[video_name(video), names[track.category_id]].append(masks)
    return {key: sorted(tracks, key=str) for key, tracks in found.items()}


def measures(dataset: Dataset) -> Any:
    return sorted(
        ([track.boxes_xywh, track.areas] for video in dataset.videos for track in video.tracks), key=str
    )


def pixels(dataset: Dataset) -> dict[str, list[Any]]:
    return {
        video_name(video): [read_frame(dataset, video, index).tolist() for index in range(video.length)]
        for video in dataset.videos
    }


@pytest.mark.parametrize("to", VIDEO_FORMATS)
def test_videos_survive_the_way_there_and_back(to: str, tmp_path: Path) -> None:
    source = load(small_set.write_set(tmp_path / "source"))
    assert convert(source, tmp_path / to, to) == []
    there = load(tmp_path / to)
    assert content(there) == content(source)
    assert pixels(there) == pixels(source)
    assert convert(there, tmp_path / "back", "ytvis") == []
    back = load(tmp_path / "back")
    assert content(back) == content(source)
    assert pixels(back) == pixels(source)
    if to != "mots":  # which lists classes by number
        assert [category.name for category in back.categories] == ["cat", "dog"]
    assert measures(back) == measures(source)


def test_single_images_survive_yolo(tmp_path: Path) -> None:
    document = small_set.document()
    document["videos"], document["annotations"] = document["videos"][1:], document["annotations"][2:]
    source = load(small_set.write_set(tmp_path / "source", document))
    assert convert(source, tmp_path / "yolo", "yolo") == []
    there = load(tmp_path / "yolo", "train")
    assert content(there) == content(source)  # the hole of the ring, too
    assert pixels(there) == pixels(source)
    assert [category.name for category in there.categories] == ["cat", "dog"]


def test_real_polygons_survive_yolo(real_data: Path, tmp_path: Path) -> None:
    source = load(real_data / "coco128")
    lost = convert(source, tmp_path / "yolo", "yolo")
    assert lost == ["crowd regions: left out"]
    back = load(tmp_path / "yolo", "train")
    for video in source.videos:
        video.tracks = [track for track in video.tracks if not track.iscrowd]
    assert sum(len(video.tracks) for video in back.videos) == 887
    assert content(back) == content(source)


def test_yolo_says_that_it_loses_identities(tmp_path: Path) -> None:
    lost = convert(load(small_set.write_set(tmp_path / "source")), tmp_path / "yolo", "yolo")
    assert len(lost) == 1
    assert "same object" in lost[0]
    assert len(load(tmp_path / "yolo", "train").videos) == 4


@settings(max_examples=60, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14))))
def test_outlines_joined_to_one_ring_draw_exactly_the_mask(mask: Any) -> None:
    height, width = mask.shape
    points = joined(outlines(mask))
    if not mask.any():
        assert len(points) == 0
    else:
        ring = (points / (width, height)).round(8) * (width, height)  # as a label file holds it
        assert (rle.decode(rle.from_any([ring.ravel().tolist()], height, width)) == mask).all()


@pytest.mark.parametrize("to", ["davis", "mots"])
def test_pictures_of_labels_come_back_bit_by_bit(to: str, tmp_path: Path) -> None:
    convert(load(small_set.write_set(tmp_path / "source")), tmp_path / "one", to)
    convert(load(tmp_path / "one"), tmp_path / "two", to)
    pictures = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.png"))
    assert len(pictures) == 8
    for picture in pictures:
        one, two = (Image.open(tmp_path / folder / picture) for folder in ("one", "two"))
        assert (np.array(one) == np.array(two)).all()
        assert one.mode == two.mode


def test_overlaps_go_to_the_smaller_object_and_are_told(tmp_path: Path) -> None:
    document = small_set.document()
    document["annotations"][1]["segmentations"][0] = small_set.rectangle(3, 2, 2, 2)  # on the cat
    lost = convert(load(small_set.write_set(tmp_path / "source", document)), tmp_path / "davis", "davis")
    assert lost == ["video a: 4 pixels belong to two objects; the smaller one keeps them"]
    cat, dog = load(tmp_path / "davis").videos[1].tracks
    assert (cat.areas[0], dog.areas[0]) == (12 - 4, 4)


def test_crowds_are_told(tmp_path: Path) -> None:
    document = small_set.document()
    document["annotations"][2]["iscrowd"] = 1
    source = load(small_set.write_set(tmp_path / "source", document))
    for to in ("davis", "mots", "yolo"):
        assert any("crowd" in line for line in convert(source, tmp_path / to, to))


def palette(path: Path, labels: list[list[int]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.array(labels, np.uint8))
    image.putpalette(list(range(256)) * 3)
    image.save(path)


def test_davis_as_it_is_published(tmp_path: Path) -> None:
    """480p folders, ImageSets, no classes, 255 for what nobody labelled, frames beyond the annotated ones."""
    for name in ("bear", "camel"):
        palette(tmp_path / "Annotations/480p" / name / "00000.png", [[0, 1, 255], [0, 2, 2]])
        for frame in (0, 1):
            image = tmp_path / "JPEGImages/480p" / name / f"{frame:05d}.jpg"
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (3, 2)).save(image)
    lists = tmp_path / "ImageSets/2017"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("bear\n")
    (lists / "val.txt").write_text("camel\n")
    assert [source.split for source in find(tmp_path)] == ["train", "val"]
    dataset = load(tmp_path, "val")
    (video,) = dataset.videos
    assert [category.name for category in dataset.categories] == ["object"]
    assert video.file_names == ["camel/00000.jpg"]
    assert [track.areas for track in video.tracks] == [[1], [2]]
    assert read_frame(dataset, video, 0).shape == (2, 3, 3)


def test_davis_2016_marks_its_object_with_255(tmp_path: Path) -> None:
    palette(tmp_path / "Annotations/bear/00000.png", [[0, 255, 255]])
    (video,) = load(tmp_path).videos
    assert [track.areas for track in video.tracks] == [[2]]


def test_youtube_vos_names_categories(tmp_path: Path) -> None:
    palette(tmp_path / "Annotations/v/00000.png", [[0, 1, 2]])
    meta = {"videos": {"v": {"objects": {"1": {"category": "penguin"}, "2": {"category": "fox"}}}}}
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    dataset = load(tmp_path)
    names = {category.id: category.name for category in dataset.categories}
    assert [names[track.category_id] for track in dataset.videos[0].tracks] == ["penguin", "fox"]


def test_kitti_mots_as_it_is_published(tmp_path: Path) -> None:
    """Class * 1000 + object in 16 bits, 10000 to ignore, images as .png below training/image_02."""
    labels = np.array([[0, 1000, 1001, 2005], [10000, 10000, 2005, 2005]], np.uint16)
    (tmp_path / "instances/0002").mkdir(parents=True)
    Image.fromarray(labels).save(tmp_path / "instances/0002/000000.png")
    (tmp_path / "training/image_02/0002").mkdir(parents=True)
    Image.new("RGB", (4, 2)).save(tmp_path / "training/image_02/0002/000000.png")
    dataset = load(tmp_path)
    (video,) = dataset.videos
    names = {category.id: category.name for category in dataset.categories}
    assert [(names[track.category_id], track.areas) for track in video.tracks] == [
        ("car", [1]),
        ("car", [1]),
        ("pedestrian", [3]),
    ]
    assert read_frame(dataset, video, 0).shape == (2, 4, 3)
    convert(dataset, tmp_path / "again", "mots")
    assert (np.array(Image.open(tmp_path / "again/instances/0002/000000.png")) == labels).all()


def test_yolo_as_it_is_published(tmp_path: Path) -> None:
    (tmp_path / "images/val/deep").mkdir(parents=True)
    (tmp_path / "labels/val/deep").mkdir(parents=True)
    Image.new("RGB", (10, 10)).save(tmp_path / "images/val/deep/x.jpg")
    Image.new("RGB", (10, 10)).save(tmp_path / "images/val/empty.jpg")
    (tmp_path / "labels/val/deep/x.txt").write_text("1 0 0 0.5 0 0.5 0.4 0 0.4\n")
    (tmp_path / "data.yaml").write_text("path: .\nnc: 2\nnames: {0: cat, 1: dog}\nval: images/val\n")
    dataset = load(tmp_path)
    by_name = {video.file_names[0]: video.tracks for video in dataset.videos}
    assert by_name["empty.jpg"] == []
    (track,) = by_name["deep/x.jpg"]
    assert dataset.label_of()[track.category_id] == 1
    assert track.boxes_xywh == [[0, 0, 5, 4]]
    assert track.areas == [20]


def test_frames_of_a_video_file_become_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with VideoWriter(tmp_path / "clip.mp4", 10) as writer:
        for _ in range(50):
            writer.write(rng.integers(0, 255, (16, 24, 3), dtype=np.uint8))
    video = Video(1, 24, 16, [f"clip.mp4/{frame}" for frame in range(1, 50)])
    source = Dataset([Category(1, "cat")], [video], tmp_path)
    done: list[None] = []
    assert convert(source, tmp_path / "out", "ytvis", on_frame=lambda: done.append(None)) == []
    assert len(done) == 49
    out = load(tmp_path / "out")
    assert out.videos[0].file_names[:2] == ["clip.mp4/1.png", "clip.mp4/2.png"]
    assert pixels(out) == pixels(source)


def test_conversion_replaces_only_its_own_folders_and_only_if_asked(tmp_path: Path) -> None:
    source = load(small_set.write_set(tmp_path / "source"))
    out = tmp_path / "out"
    convert(source, out, "ytvis")
    with pytest.raises(UserError, match="exists"):
        convert(source, out, "davis")
    convert(source, out, "davis", overwrite=True)
    assert not (out / "dataset.yaml").exists()
    home = tmp_path / "home"
    home.mkdir()
    (home / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="not replaced"):
        convert(source, home, "davis", overwrite=True)
    assert (home / "letter.txt").read_text() == "dear"
    for folder in (tmp_path / "source", tmp_path):
        with pytest.raises(UserError, match="holds the data that is read"):
            convert(source, folder, "ytvis", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "out", "source"]


def test_a_conversion_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    source = load(small_set.write_set(tmp_path / "source"))
    convert(source, tmp_path / "out", "davis")
    (tmp_path / "source/JPEGImages/b/00000.png").unlink()
    with pytest.raises(UserError, match="no such image"):
        convert(source, tmp_path / "out", "davis", overwrite=True)
    assert content(load(tmp_path / "out")) == content(source)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]
