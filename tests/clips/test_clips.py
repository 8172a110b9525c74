"""Clips of annotated videos."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ookd.clips.loader import make_loader
from ookd.clips.minor_paste import PASTED, MinorPaste, MinorPasteConfig
from ookd.clips.sampling import DistillSampler, PairSampler
from ookd.clips.sources import ClipDataset, ClipSource, DatasetClips
from ookd.clips.transforms import idol_video_augment
from ookd.clips.warps import Resize
from ookd.data import rle
from ookd.data.formats import load
from ookd.errors import UserError
from ookd.structures import Category, Dataset, Track, Video

H, W, FRAMES = 12, 16, 4


def square(frame: int, size: int = 3) -> np.ndarray:
    mask = np.zeros((H, W), np.bool_)
    mask[frame : frame + size, 2 * frame : 2 * frame + size] = True
    return mask


def track(track_id: int, category_id: int, frames: set[int], iscrowd: bool = False) -> Track:
    seen = [frame in frames for frame in range(FRAMES)]
    return Track(
        track_id,
        category_id,
        [rle.encode(square(f)) if s else None for f, s in enumerate(seen)],
        [[2.0 * f, 1.0 * f, 3.0, 3.0] if s else None for f, s in enumerate(seen)],
        [9.0 if s else None for s in seen],
        iscrowd,
    )


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    videos = []
    for number, tracks in enumerate(
        ([track(4, 30, {0, 1}), track(9, 10, {1, 2, 3}), track(5, 10, {0, 1, 2, 3}, iscrowd=True)], [])
    ):
        names = [f"{number}_{frame}.png" for frame in range(FRAMES)]
        for frame, name in enumerate(names):
            Image.fromarray(np.full((H, W, 3), 10 * number + frame, np.uint8)).save(tmp_path / name)
        videos.append(Video(number + 1, W, H, names, tracks))
    return Dataset([Category(10, "cat"), Category(30, "dog")], videos, tmp_path, "pets")


def test_a_clip_holds_the_tracks_seen_in_its_frames(dataset: Dataset) -> None:
    source = DatasetClips(dataset)
    assert isinstance(source, ClipSource)
    clip = source.clip(0, [0, 2])
    assert [int(image[0, 0, 0]) for image in clip.images] == [0, 2]
    assert clip.ids.tolist() == [4, 9]  # the crowd is left out
    assert clip.labels.tolist() == [1, 0]
    np.testing.assert_array_equal(clip.masks[0], [square(0), np.zeros((H, W))])
    np.testing.assert_array_equal(clip.masks[1], [np.zeros((H, W)), square(2)])
    assert source.clip(0, [3]).ids.tolist() == [9]
    assert source.clip(0, [1, 1]).frames.tolist() == [1, 1]


def test_a_frame_annotation_needs_box_and_mask(dataset: Dataset) -> None:
    dataset.videos[0].tracks[0].boxes_xywh[0] = None
    assert DatasetClips(dataset).clip(0, [0]).ids.tolist() == []


def test_polygons_are_drawn(dataset: Dataset) -> None:
    dataset.videos[0].tracks[0].segmentations[0] = [[2.0, 1.0, 8.0, 1.0, 8.0, 6.0, 2.0, 6.0]]
    expected = np.zeros((H, W), np.bool_)
    expected[1:6, 2:8] = True
    np.testing.assert_array_equal(DatasetClips(dataset).clip(0, [0]).masks[0][0], expected)


def test_videos_without_annotations_are_left_out_unless_asked_for(dataset: Dataset) -> None:
    assert len(DatasetClips(dataset)) == 1
    every = DatasetClips(dataset, labelled_only=False)
    assert len(every) == 2
    assert every.clip(1, [3]).masks[0].shape == (0, H, W)


def test_tracks_are_counted_by_label(dataset: Dataset) -> None:
    source = DatasetClips(dataset)
    assert source.labels(0) == [1, 0]
    assert source.class_counts() == [1, 1]


def test_damage_is_named(dataset: Dataset) -> None:
    dataset.videos[0].tracks[0].segmentations[1] = {"size": [H, W], "counts": "~~"}
    with pytest.raises(UserError, match=r"video 1, frame 1, track 4: "):
        DatasetClips(dataset).clip(0, [1])
    dataset.videos[0].height = 99
    with pytest.raises(UserError, match=r"frame 3 \(0_3.png\): the image is 16x12, .* for 16x99"):
        DatasetClips(dataset).clip(0, [3])


def test_nothing_annotated_is_an_error(dataset: Dataset) -> None:
    dataset.videos[0].tracks.clear()
    with pytest.raises(UserError, match="pets: no annotated video"):
        DatasetClips(dataset)


def test_an_item_depends_on_seed_epoch_and_video_alone(dataset: Dataset) -> None:
    def frames(seed: int) -> list[list[int]]:
        items = ClipDataset(DatasetClips(dataset), PairSampler(), seed=seed)
        return [items[epoch, 0].frames.tolist() for epoch in (0, 1, 2, 3, 4, 5)]

    assert frames(1) == frames(1)
    assert frames(1) != frames(2)
    assert len({tuple(pair) for pair in frames(1)}) > 1


def test_real_video_through_the_whole_loader(real_data: Path) -> None:
    """davis240 with pasted objects: targets are seen, boxes fit masks, nothing lies on the padding."""
    source = DatasetClips(load(real_data / "davis240", "train"))
    stages = [MinorPaste(source, MinorPasteConfig(probability=1)), idol_video_augment((128, 160), 288)]
    batches = make_loader(ClipDataset(source, DistillSampler(4, 12), stages), 3, workers=0)
    pasted = 0
    for batch in islice(batches, 3):
        assert batch.frames.shape[-2] % 32 == batch.frames.shape[-1] % 32 == 0
        for b, tracks in enumerate(batch.tracks):
            pasted += int((tracks.ids >= PASTED).sum())
            assert not (tracks.masks & batch.pad[b]).any()
            assert torch.equal(tracks.visible, tracks.masks.any(-1).any(-1))
            assert tracks.visible.any(dim=1).all()
            width = (~batch.pad[b]).any(1).sum(-1)  # [T]
            columns = tracks.masks.any(-2).sum(-1)  # [N, T] at most as many as the box is wide
            assert (columns <= tracks.boxes[..., 2] * width + 1e-3).all()
    assert pasted > 3


def test_polygons_of_real_images_keep_their_area_when_scaled(real_data: Path) -> None:
    source = DatasetClips(load(real_data / "coco128"))
    compared = 0
    for i in range(5):
        height, width = source.size(i)
        clip = source.clip(i, [0], [[Resize(2 * height, 2 * width)]])
        areas = {track.id: track.areas[0] for track in source.dataset.videos[i].tracks}
        for track_id, mask in zip(clip.ids, clip.masks[0], strict=True):
            area = areas.get(int(track_id))
            if area is not None and area > 2000:
                assert mask.sum() / 4 == pytest.approx(area, rel=0.02)
                compared += 1
    assert compared > 5
