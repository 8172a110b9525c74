"""`--data`: which of the user's videos are learned from and validated on, and at what size."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import small_set
from ookd.cli import main
from ookd.cli.own_data import load_recipe
from ookd.clips.opening import open_source
from ookd.config import FolderData
from ookd.errors import UserError


@pytest.fixture
def splits(tmp_path: Path) -> Path:
    small_set.write_set(tmp_path / "my" / "train")
    shutil.copytree(tmp_path / "my" / "train", tmp_path / "my" / "val")
    return tmp_path / "my"


def test_splits_are_taken_for_what_they_are_called(splits: Path) -> None:
    data = load_recipe("nano", [], splits).data
    assert [(source.kind, source.split) for source in data.train if isinstance(source, FolderData)] == [
        ("folder", "train")
    ]
    assert isinstance(data.val, FolderData)
    assert data.val.split == "val"
    assert data.tune is None
    assert list(open_source(data.val).names) == ["cat", "dog"]


def test_one_set_is_learned_from_and_nothing_validated(splits: Path) -> None:
    data = load_recipe("nano", [], splits / "train").data
    assert len(data.train) == 1
    assert data.val is None


def test_frames_come_to_the_size_at_which_the_model_tracks(splits: Path) -> None:
    assert load_recipe("nano", [], splits).data.augment.sides == [160]
    assert load_recipe("nano-clip", ["tracker.short_side=224"], splits).data.augment.sides == [224]
    assert load_recipe("nano", ["data.augment.sides=[96, 128]"], splits).data.augment.sides == [96, 128]
    assert load_recipe("nano", []).data.augment.sides == []  # worlds are drawn at their size


def test_changes_have_the_last_word(splits: Path) -> None:
    assert load_recipe("nano", ["data.val=null"], splits).data.val is None


def test_videos_without_labels_lie_beside_and_may_have_no_annotations(splits: Path, tmp_path: Path) -> None:
    shutil.copytree(splits / "train" / "JPEGImages", tmp_path / "more")
    train = load_recipe("nano-distill", [], splits, tmp_path / "more").data.train
    assert [source.unlabelled for source in train] == [False, True]
    source = open_source(train[1])
    assert [source.video_length(i) for i in range(len(source))] == [3, 1]
    assert source.clip(0, [0, 2]).masks[0].shape[0] == 0


def test_what_is_missing_is_said(splits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.move(splits / "train", splits / "test")
    with pytest.raises(UserError, match=r"my: has no split 'train'; it has test, val"):
        load_recipe("nano", [], splits)
    assert main(["distill", "--unlabelled", str(splits)]) == 2
    assert "name these with --data" in capsys.readouterr().err
