"""Composites: real tracks in new scenes, exact masks, no way from one part of the data to another."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from ookd.clips.sources import ClipSource
from ookd.data import rle
from ookd.data.formats import load
from ookd.errors import UserError
from ookd.structures import Category, Dataset, Track, Video
from ookd.worlds.composite import Composite

SIDE, LENGTH = 120, 6
COLOURS = [(250, 10, 10), (10, 250, 10), (10, 10, 250), (250, 250, 10), (250, 10, 250), (10, 250, 250)] * 2


@pytest.fixture
def discs(tmp_path: Path) -> Dataset:
    """Twelve videos of one disc each, every one of its own colour on grey, drifting to the right."""
    videos = []
    for n, colour in enumerate(COLOURS):
        names, masks = [], []
        for t in range(LENGTH):
            mask = np.zeros((SIDE, SIDE), np.uint8)
            cv2.circle(mask, (50 + 4 * t, 60), 30, 1, -1)
            image = np.where(mask[..., None] > 0, np.uint8(colour), np.uint8(120 + n)).astype(np.uint8)
            names.append(f"{n:02d}/{t}.png")
            (tmp_path / names[-1]).parent.mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / names[-1]), image[..., ::-1])
            masks.append(rle.encode(mask.astype(bool)))
        boxes = [rle.box_xywh(mask) for mask in masks]
        areas = [float(rle.area(mask)) for mask in masks]
        track = Track(n + 1, 1 + n % 2, list(masks), list(boxes), list(areas))
        videos.append(Video(n + 1, SIDE, SIDE, names, [track], {"single_object": n % 4 != 1}))
    return Dataset([Category(1, "warm"), Category(2, "cold")], videos, tmp_path, "discs")


def test_a_composite_is_a_clip_source_of_the_data_sets_classes(discs: Dataset) -> None:
    composite = Composite(discs, videos=5, crowd=(3, 3))
    assert isinstance(composite, ClipSource)
    assert composite.names == ("warm", "cold")
    assert [len(composite.labels(i)) for i in range(5)] == [4] * 5  # three pasted, one underneath
    assert sum(composite.class_counts()) == 20


def test_the_same_bits_for_any_frame_alone(discs: Dataset) -> None:
    run = Composite(discs, seed=2).clip(3, range(10))
    alone = pickle.loads(pickle.dumps(Composite(discs, seed=2))).clip(3, [7])
    other = Composite(discs, seed=3).clip(3, [7])
    assert np.array_equal(run.images[7], alone.images[0])
    assert not np.array_equal(other.images[0], alone.images[0])
    masks = dict(zip(run.ids.tolist(), run.masks[7], strict=True))
    assert all(
        np.array_equal(masks[n], mask) for n, mask in zip(alone.ids.tolist(), alone.masks[0], strict=True)
    )


def test_pixels_of_a_mask_are_pixels_of_its_object(discs: Dataset) -> None:
    """Inside a visible mask, away from its edge, lies the colour of the disc that was pasted."""
    composite = Composite(discs, videos=6, association=1, height=SIDE, width=SIDE)
    for i in range(6):
        scene = composite.scene(i)
        clip = composite.clip(i, [4])
        tracks = [*scene.below, *(actor.candidate.track for actor in scene.actors)]
        for number, mask in zip(clip.ids.tolist(), clip.masks[0], strict=True):
            inner = cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
            colour = np.array(COLOURS[tracks[number % 1000 - 1].id - 1])
            assert np.array_equal(clip.images[0][inner] > 100, np.tile(colour > 100, (inner.sum(), 1)))


def test_visible_masks_are_disjoint_parts_of_full_ones(discs: Dataset) -> None:
    composite = Composite(discs, videos=5, association=1, crowd=(4, 5))
    hidden = 0
    for i in range(5):
        for t in range(16):
            truth = composite.scene(i).truth(t)
            assert truth.visible.sum(0).max() <= 1
            assert not (truth.visible & ~truth.full).any()
            hidden += int(truth.full.sum() - truth.visible.sum())
            assert np.array_equal(composite.scene(i).frame(t)[1], truth.visible)
    assert hidden > 0


def test_a_pasted_mask_is_its_source_scaled(discs: Dataset) -> None:
    """A disc of radius 30 in a box of 61 pixels, pasted `length` long, covers pi (30.5 / 61 length)^2."""
    composite = Composite(discs, videos=10, crowd=(1, 1), size=(0.3, 0.3), height=200, width=200)
    checked = 0
    for i in range(10):
        scene = composite.scene(i)
        full = scene.truth(0).full[-1]
        x, y, length = (float(v[0, 0]) * 200 for v in (scene.poses.x, scene.poses.y, scene.poses.length))
        if length < x < 200 - length and length < y < 200 - length:
            assert full.sum() == pytest.approx(np.pi * (length / 2) ** 2, rel=0.05)
            checked += 1
    assert checked >= 3


def test_parts_share_no_video_and_only_single_objects_are_cut(discs: Dataset) -> None:
    single = {video.id for video in discs.videos if video.extra["single_object"]}
    used = {}
    for part in ("train", "tune"):
        composite = Composite(discs, part=part)
        assert {cut.video.id for cut in composite.candidates} <= single
        used[part] = {v.id for v in composite.backgrounds} | {cut.video.id for cut in composite.candidates}
    assert not used["train"] & used["tune"]
    assert used["train"] | used["tune"] == {video.id for video in discs.videos}
    everything = Composite(discs)
    assert {cut.video.id for cut in everything.candidates} == single


def test_an_object_is_not_pasted_over_its_own_video(discs: Dataset) -> None:
    composite = Composite(discs, videos=30)
    for i in range(30):
        scene = composite.scene(i)
        assert all(actor.candidate.video.id != scene.background.id for actor in scene.actors)


def test_too_little_to_cut_out_is_said(discs: Dataset) -> None:
    for video in discs.videos[1:]:
        video.extra["single_object"] = False
    with pytest.raises(UserError, match="discs: too few of the all videos"):
        Composite(discs)
    with pytest.raises(UserError, match="all, train, tune"):
        Composite(discs, part="val")  # type: ignore[arg-type]


def test_real_tracks_make_crowds(real_data: Path) -> None:
    file = real_data / "davis240" / "instances_train.json"
    if not file.exists():
        pytest.skip(f"no {file}")
    composite = Composite(load(file), videos=3, association=1)
    assert len(composite.candidates) == 18
    for i in range(3):
        clip = composite.clip(i, [0, 8])
        assert clip.images[0].shape == (160, 288, 3)
        assert len(clip.ids) >= 2
