"""What is found in a folder or a dataset.yaml, and where its frames are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import small_set
from ookd.data.check import check
from ookd.data.convert import convert
from ookd.data.formats import find, load
from ookd.data.formats.official import official_categories, renumbered
from ookd.data.frames import read_frame
from ookd.errors import UserError


@pytest.mark.parametrize(
    ("annotations", "frames"),
    [
        ("instances.json", "JPEGImages"),
        ("instances_val.json", "val"),  # OVIS
        ("annotations/instances_val.json", "val/JPEGImages"),
        ("annotations/instances_val2017.json", "val2017"),  # COCO
        ("val/instances.json", "val/JPEGImages"),  # YTVIS 2021
        ("train.json", "train/JPEGImages"),  # YTVIS 2019
        ("train.json", "images/train"),
        ("labels.json", "frames"),
        ("labels.json", "."),
    ],
)
def test_frames_are_found_where_data_sets_keep_them(annotations: str, frames: str, tmp_path: Path) -> None:
    small_set.write_set(tmp_path / "source")
    (tmp_path / "data" / annotations).parent.mkdir(parents=True)
    shutil.copy(tmp_path / "source/instances.json", tmp_path / "data" / annotations)
    shutil.copytree(tmp_path / "source/JPEGImages", tmp_path / "data" / frames, dirs_exist_ok=True)
    for path in (tmp_path / "data" / annotations, tmp_path / "data"):
        dataset = load(path)
        assert (read_frame(dataset, dataset.videos[0], 1) == small_set.image("a", 1)).all()


def test_several_splits_must_be_named(tmp_path: Path) -> None:
    path = small_set.write_set(tmp_path)
    path.rename(tmp_path / "instances_train.json")
    shutil.copy(tmp_path / "instances_train.json", tmp_path / "instances_val.json")
    assert [source.split for source in find(tmp_path)] == ["train", "val"]
    with pytest.raises(UserError, match=r"holds several sets \(train, val\); name one"):
        load(tmp_path)
    with pytest.raises(UserError, match="has no split 'test'; it has train, val"):
        load(tmp_path, "test")
    assert load(tmp_path, "val").name == "instances_val"


def test_other_json_files_are_no_annotations(tmp_path: Path) -> None:
    small_set.write_set(tmp_path)
    (tmp_path / "predictions.json").write_text("[]")
    (tmp_path / "captions_train.json").write_text("{}")
    assert [source.path.name for source in find(tmp_path)] == ["instances.json"]


@pytest.mark.parametrize("path", ["nowhere", "nowhere.json", "empty", "letter.txt"])
def test_nothing_found_is_one_line(path: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UserError) as caught:
        load(tmp_path / path)
    assert "\n" not in str(caught.value)


def describe(folder: Path, text: str) -> Path:
    small_set.write_set(folder / "inner")
    path = folder / "dataset.yaml"
    path.write_text(text)
    return path


def test_dataset_yaml_names_splits_and_orders_classes(tmp_path: Path) -> None:
    path = describe(
        tmp_path, "names: [dog, bird, cat]\ntrain: inner\nval: {annotations: inner/instances.json}\n"
    )
    assert [source.split for source in find(tmp_path)] == ["train", "val"]
    for split in ("train", "val"):
        dataset = load(path, split)
        assert [category.name for category in dataset.categories] == ["dog", "bird", "cat"]
        assert [category.id for category in dataset.categories] == [
            1,
            4,
            3,
        ]  # results keep the file's numbers
        labels = [dataset.label_of()[track.category_id] for track in dataset.videos[0].tracks]
        assert labels == [2, 0]
        assert (read_frame(dataset, dataset.videos[0], 2) == small_set.image("a", 2)).all()


def test_dataset_yaml_may_stand_beside_what_it_describes(tmp_path: Path) -> None:
    small_set.write_set(tmp_path)
    (tmp_path / "dataset.yaml").write_text("train: .\n")
    assert len(load(tmp_path).videos) == 2


def test_exports_of_roboflow(tmp_path: Path) -> None:
    """YOLO: splits of its own, named from one folder too deep. COCO: a file in each folder of images."""
    for split in ("train", "valid"):
        convert(load(small_set.write_set(tmp_path / f"{split}-set")), tmp_path / f"{split}-yolo", "yolo")
        for kind in ("images", "labels"):
            shutil.copytree(tmp_path / f"{split}-yolo" / kind, tmp_path / "yolo" / split / kind)
        shutil.copytree(tmp_path / f"{split}-set/JPEGImages", tmp_path / "coco" / split)
        shutil.copy(
            tmp_path / f"{split}-set/instances.json", tmp_path / "coco" / split / "_annotations.coco.json"
        )
    text = (
        "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['cat', 'dog']\nroboflow: {license: x}\n"
    )
    (tmp_path / "yolo/data.yaml").write_text(text)
    for kind in ("yolo", "coco"):
        assert [source.split for source in find(tmp_path / kind)] == ["train", "val"]
        assert check(find(tmp_path / kind)).problems == []


def test_frames_may_be_said(tmp_path: Path) -> None:
    path = describe(tmp_path, "train:\n  annotations: inner/instances.json\n  frames: elsewhere\n")
    (tmp_path / "inner/JPEGImages").rename(tmp_path / "elsewhere")
    assert load(path).root == tmp_path / "elsewhere"
    assert (
        load(tmp_path / "inner/instances.json", frames=tmp_path / "elsewhere").root == tmp_path / "elsewhere"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trian: inner\n", "unknown key 'trian'; did you mean 'train'"),
        ("names: [cat, dog]\n", "names no split"),
        ("names: [cat, cat]\ntrain: inner\n", "'cat' more than once"),
        ("names: cat\ntrain: inner\n", "'names' must be a list"),
        ("names: [cat]\ntrain: inner\n", "objects of the class 'dog', which 'names'"),
        ("train: [inner]\n", "'train' must be a path"),
        ("train: {annotation: inner}\n", "the keys 'annotations' and 'frames'"),
        ("train: nowhere\n", "nowhere: no such file"),
        ("train: [inner\n", "is not valid YAML"),
        ("- train\n", "must hold 'key: value' lines"),
        ("", "must hold 'key: value' lines"),
    ],
)
def test_a_wrong_dataset_yaml_says_what_would_be_right(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load(describe(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_official_classes_are_known_and_renumbering_is_seen() -> None:
    lists = official_categories()
    assert {name: len(categories) for name, categories in lists.items()} == {
        "ytvis-2019": 40,
        "ytvis-2021": 40,
        "ytvis-2022": 40,
        "ovis": 25,
        "coco": 80,
    }
    assert (lists["ytvis-2019"][0].name, lists["ytvis-2021"][0].name) == ("person", "airplane")
    assert (lists["coco"][-1].id, lists["coco"][-1].name) == (90, "toothbrush")
    for categories in lists.values():
        assert renumbered(categories) is None
        assert renumbered(categories[:-1]) is None
    swapped = [type(item)(26 - item.id, item.name) for item in lists["ovis"]]
    assert renumbered(swapped) == "ovis"


def test_official_lists_match_a_real_file(real_data: Path) -> None:
    file = json.loads((real_data / "coco128/instances_train2017.json").read_text())
    assert [(item.id, item.name) for item in official_categories()["coco"]] == [
        (item["id"], item["name"]) for item in file["categories"]
    ]
