"""Worlds: the same bits every time, disjoint splits, exact masks, and a file form that reads back equal."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from ookd.clips.sources import ClipSource
from ookd.data import rle
from ookd.data.formats import load
from ookd.data.frames import read_frame
from ookd.errors import UserError
from ookd.worlds import PRESETS, SPLITS, World, write


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
    write(world, tmp_path / "val")
    dataset = load(tmp_path / "val")
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
    with pytest.raises(UserError, match="not replaced"):
        write(World(videos=1), tmp_path, overwrite=True)
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


def _masks(world: World, video: int) -> list[np.ndarray]:
    return [world.scene(video).truth(t).visible for t in range(world.frames)]


def test_appearance_moves_nothing() -> None:
    easy, hard = (World("ovis-like", videos=3, frames=6, appearance=a) for a in (0.0, 1.0))
    for i in range(3):
        assert all(np.array_equal(a, b) for a, b in zip(_masks(easy, i), _masks(hard, i), strict=True))


def _contrast(world: World) -> float:
    """Mean distance in colour between an object and the ring around it."""
    gaps = []
    for i in range(len(world)):
        clip = world.clip(i, [3])
        for mask in clip.masks[0]:
            ring = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool) & ~mask
            gaps.append(np.linalg.norm(clip.images[0][mask].mean(0) - clip.images[0][ring].mean(0)))
    return float(np.mean(gaps))


def _class_guess(world: World) -> float:
    """How often the nearest other object in mean colour is of the same class: what colour alone tells."""
    colours, labels = [], []
    for i in range(len(world)):
        clip = world.clip(i, [3])
        colours += [clip.images[0][mask].mean(0) for mask in clip.masks[0]]
        labels += clip.labels.tolist()
    gaps = np.linalg.norm(np.array(colours)[:, None] - np.array(colours), axis=-1) + 1e9 * np.eye(len(labels))
    return float(np.mean(np.array(labels)[gaps.argmin(1)] == labels))


def _noise(world: World) -> float:
    """Deviation between neighbouring pixels, which smooth places have only from noise."""
    image = world.clip(0, [0]).images[0].astype(float)
    return float(np.median(np.abs(np.diff(image, axis=1))))


def test_appearance_takes_contrast_and_class_colour_and_adds_noise() -> None:
    # one object a video and no look-alikes, so that neighbours in colour are strangers
    easy, hard = (World(videos=60, frames=4, crowd=(1, 1), imbalance=0, appearance=a) for a in (0.0, 1.0))
    assert _contrast(hard) < 0.6 * _contrast(easy)
    assert _class_guess(hard) < 0.6 * _class_guess(easy)
    assert _noise(hard) > 2 * _noise(easy)


def _switches(world: World) -> float:
    """Identity switches an object and 10 frames of the plainest tracker on perfect masks: overlap."""
    switches = objects = 0
    for i in range(len(world)):
        last: dict[int, np.ndarray] = {}  # by the tracker's number
        given: dict[int, int] = {}  # object -> the tracker's number
        for visible in _masks(world, i):
            for n in np.flatnonzero(visible.any((1, 2))).tolist():
                overlap = {
                    k: (mask & visible[n]).sum() / (mask | visible[n]).sum() for k, mask in last.items()
                }
                best = max(overlap, key=overlap.__getitem__, default=None)
                number = best if best is not None and overlap[best] > 0.1 else len(last)
                switches += given.get(n, number) != number
                given[n], last[number] = number, visible[n]
        objects += len(visible)
    return switches / objects / world.frames * 10


def test_association_makes_identities_hard_to_keep_and_repaints_nothing() -> None:
    easy, hard = (World(videos=25, frames=24, crowd=(3, 5), association=a) for a in (0.0, 1.0))
    assert _switches(hard) > 2 * _switches(easy)
    alike = [np.mean([len(set(w.labels(i))) / len(w.labels(i)) for i in range(25)]) for w in (easy, hard)]
    assert alike[1] < 0.7 * alike[0]
    assert _contrast(hard) == pytest.approx(_contrast(easy), rel=0.25)
    for i in range(5):
        assert np.array_equal(hard.scene(i).place.image, easy.scene(i).place.image)
        assert np.array_equal(hard.scene(i).coats[0], easy.scene(i).coats[0])


def test_hard_association_hides_objects_for_long_and_brings_them_back() -> None:
    easy, hard = (World(videos=12, frames=32, crowd=(4, 4), association=a) for a in (0.0, 1.0))

    def returns(world: World) -> int:
        """Gaps of three frames and more between two sights of an object."""
        count = 0
        for video in world.dataset().videos:
            for track in video.tracks:
                seen = np.flatnonzero([mask is not None for mask in track.segmentations])
                count += int((np.diff(seen) > 3).sum())
        return count

    assert returns(hard) >= 10
    assert returns(easy) <= returns(hard) / 4


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_class_frequencies_follow_zipf(exponent: float) -> None:
    world = World(videos=1500, crowd=(1, 1), imbalance=exponent)
    weights = np.arange(1, len(world.names) + 1) ** -exponent
    expected = weights / weights.sum() * 1500
    counts = np.array(world.class_counts())
    assert ((counts - expected) ** 2 / expected).sum() < 34.5  # chi-square, 13 degrees of freedom, p = 0.001


def test_crowd_and_size_are_what_is_asked_for() -> None:
    world = World(videos=40, crowd=(4, 10), size=(0.3, 0.3), association=0.5)
    counts = [len(world.labels(i)) for i in range(40)]
    assert min(counts) == 4
    assert max(counts) == 10
    for i in range(5):
        cast = world.scene(i).cast
        base = cast.sizes / [species.size for species in world.scene(i).species]
        assert base == pytest.approx(0.3)


def test_visibility_is_the_visible_share_of_the_whole() -> None:
    world = World("ovis-like", videos=2, frames=6)
    levels = set()
    for i, video in enumerate(world.dataset().videos):
        for track in video.tracks:
            for t, (share, level) in enumerate(
                zip(track.extra["visibility"], track.extra["occlusion"], strict=True)
            ):
                truth, n = world.scene(i).truth(t), track.id % 1000 - 1
                full = truth.full[n].sum()
                assert share == pytest.approx(truth.visible[n].sum() / full if full else 0, abs=1e-4)
                assert level == ("no_occlusion" if share > 0.97 else level)
                assert (level == "severe_occlusion") == (share <= 0.5)
                levels.add(level)
    assert len(levels) == 3


def test_objects_enter_or_leave_and_every_class_can_be_drawn() -> None:
    world = World(videos=60, crowd=(3, 3), imbalance=0)
    assert min(world.class_counts()) > 0
    partly = [
        track for video in world.dataset().videos for track in video.tracks if None in track.segmentations
    ]
    assert partly
