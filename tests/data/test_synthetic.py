"""Worlds: the same bits every time, disjoint splits, exact masks, and a file form that reads back equal."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from ookd.data import rle
from ookd.data.clips import ClipSource
from ookd.data.formats import load
from ookd.data.frames import read_frame
from ookd.data.synthetic import PRESETS, SPLITS, World, write
from ookd.errors import UserError


def test_a_world_is_a_clip_source() -> None:
    world = World("identity", videos=3)
    assert isinstance(world, ClipSource)
    assert len(world.names) >= 12
    assert sum(world.class_counts()) == sum(len(world.labels(i)) for i in range(3))


@pytest.mark.parametrize("preset", PRESETS)
def test_any_frame_alone_equals_the_same_frame_in_a_run(preset: str) -> None:
    run = World(preset, seed=5).clip(2, range(8))
    alone = pickle.loads(pickle.dumps(World(preset, seed=5))).clip(2, [6])
    assert np.array_equal(run.images[6], alone.images[0])
    of_run = dict(zip(run.ids.tolist(), run.masks[6], strict=True))
    assert all(
        np.array_equal(of_run[i], mask) for i, mask in zip(alone.ids.tolist(), alone.masks[0], strict=True)
    )


def test_splits_and_seeds_share_no_video() -> None:
    worlds = [World(split=split, seed=seed, videos=4) for split in SPLITS for seed in (0, 1)]
    frames = [world.clip(i, [0]).images[0].tobytes() for world in worlds for i in range(4)]
    assert len(set(frames)) == len(frames)


@pytest.mark.parametrize("preset", PRESETS)
def test_visible_masks_are_disjoint_parts_of_full_ones(preset: str) -> None:
    world = World(preset, videos=4)
    for i in range(4):
        for t in (0, 7, 15):
            truth = world.scene(i).truth(t)
            assert truth.visible.sum(0).max() <= 1
            assert not (truth.visible & ~truth.full).any()
            clip = world.clip(i, [t])
            for track, mask in zip(clip.ids, clip.masks[0], strict=True):
                assert np.array_equal(mask, truth.visible[track % 1000 - 1])


def test_the_data_set_holds_the_masks_that_clips_show(tmp_path: Path) -> None:
    world = World("ovis-like", split="val", seed=3, videos=2, frames=5)
    dataset = load(write(world, tmp_path / "val"))
    assert [category.name for category in dataset.categories] == list(world.names)
    for i, video in enumerate(dataset.videos):
        clip = world.clip(i, range(5))
        tracks = {track.id: track for track in video.tracks}
        assert sorted(tracks) == sorted(clip.ids.tolist())
        for n, track in enumerate(clip.ids.tolist()):
            for t, segmentation in enumerate(tracks[track].segmentations):
                mask = clip.masks[t][n]
                assert (segmentation is None) == (not mask.any())
                assert segmentation is None or np.array_equal(rle.decode(segmentation), mask)
        assert np.abs(read_frame(dataset, video, 1).astype(float) - clip.images[1]).mean() < 6


def test_writing_does_not_touch_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="exists"):
        write(World(videos=1), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_wrong_settings_are_named() -> None:
    with pytest.raises(UserError, match="did you mean 'association'"):
        World(asociation=0.5)
    with pytest.raises(UserError, match="ytvis-like"):
        World("ytvis")
    with pytest.raises(UserError, match="appearance"):
        World(appearance=1.5)
    with pytest.raises(UserError, match="train, tune, val, test"):
        World(split="dev")
