"""Augmentation: pixels, masks and points move together, frames of a clip stay in step, numbers by hand."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ookd.clips.transforms import (
    Augmentation,
    EachFrame,
    Either,
    RandomColour,
    RandomCrop,
    RandomFlip,
    RandomRotation,
    RandomShortSide,
    idol_image_augment,
    idol_video_augment,
)
from ookd.clips.warps import Crop, Flip, Recolour, Resize, Rotate, Warp, warp_clip, warp_polygon
from ookd.structures import Clip


def disks(frames: int = 3, height: int = 90, width: int = 120) -> Clip:
    """A white disk of radius 15 that walks to the right over grey, and its mask."""
    y, x = np.mgrid[:height, :width] + 0.5
    masks = [((x - 35 - 8 * t) ** 2 + (y - 50) ** 2 < 15**2)[None] for t in range(frames)]
    images = [np.where(mask[0, ..., None], 255, 90).astype(np.uint8).repeat(3, axis=2) for mask in masks]
    return Clip(images, masks, np.array([0]), np.array([1]), np.arange(frames))


def centre(mask: np.ndarray) -> np.ndarray:
    """x y of a mask's middle, in continuous coordinates."""
    rows, columns = np.nonzero(mask)
    return np.array([columns.mean() + 0.5, rows.mean() + 0.5])


@pytest.mark.parametrize(
    "step",
    [Resize(60, 200), Crop(10, 20, 100, 60), Flip(), Rotate(12.0), Rotate(-7.5), Recolour(1.1, 0.8)],
    ids=lambda step: type(step).__name__,
)
def test_image_mask_and_points_agree(step: Warp) -> None:
    clip = disks(1)
    warped = warp_clip(clip, [[step]])
    image, mask = warped.images[0], warped.masks[0][0]
    assert image.shape[:2] == mask.shape == step.size((90, 120))
    bright = image.mean(axis=2) > 170
    assert (bright & mask).sum() / (bright | mask).sum() > 0.93
    moved = step.points(centre(clip.masks[0][0])[None], (90, 120))[0]
    np.testing.assert_allclose(centre(mask), moved, atol=0.6)
    assert clip.images[0].shape == (90, 120, 3)  # the clip itself is as before


def test_resizing_is_pillows() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (37, 53, 3), np.uint8)
    masks = rng.random((3, 37, 53)) < 0.5
    for height, width in ((20, 90), (74, 31), (37, 53), (5, 7)):
        resize = Resize(height, width)
        expected = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(resize.image(image), np.asarray(expected))
        for mask, resized in zip(masks, resize.masks(masks), strict=True):
            nearest = Image.fromarray(mask.astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST)
            np.testing.assert_array_equal(resized, np.asarray(nearest).astype(bool))


@pytest.mark.parametrize(
    ("size", "side", "longest", "expected"),
    [
        ((720, 1280), 480, 1333, (480, 853)),  # 853.33
        ((720, 1280), 640, 1000, (563, 1000)),  # 640 * 1000 / 1137.8 = 562.5, rounded up
        ((1280, 720), 360, None, (640, 360)),
        ((100, 100), 50, 40, (40, 40)),
    ],
)
def test_short_side(size: tuple[int, int], side: int, longest: int, expected: tuple[int, int]) -> None:
    assert RandomShortSide((side,), longest).draw([size], np.random.default_rng(0)) == [[Resize(*expected)]]


def test_recolouring_by_hand() -> None:
    image = np.array([[[200, 100, 0], [10, 10, 10]]], np.uint8)
    np.testing.assert_array_equal(Recolour().image(image), image)
    np.testing.assert_array_equal(Recolour(brightness=1.5).image(image)[0, 0], [255, 150, 0])
    np.testing.assert_array_equal(Recolour(contrast=0.5).image(image)[0, 0], [164, 114, 64])  # 63.75 + x / 2
    grey = 0.299 * 200 + 0.587 * 100
    np.testing.assert_allclose(Recolour(saturation=0).image(image)[0, 0], [grey] * 3, atol=1)
    turned = Recolour(hue=90).image(image)
    assert turned[0, 0].argmax() != 0
    np.testing.assert_array_equal(turned[0, 1], [10, 10, 10])  # grey has no hue


def test_polygons_are_cut_at_the_window() -> None:
    diamond = np.array([[10.0, 0.0], [20.0, 10.0], [10.0, 20.0], [0.0, 10.0]])
    cut = warp_polygon(diamond, [Crop(10, 0, 10, 20)], (20, 20))
    assert set(map(tuple, cut.tolist())) == {(0.0, 0.0), (0.0, 20.0), (10.0, 10.0)}
    assert len(warp_polygon(diamond, [Crop(0, 0, 4, 4)], (20, 20))) == 0


def test_all_frames_of_a_clip_are_augmented_alike() -> None:
    """Motion survives: the disk's path is the same path seen through one warp."""
    augment = Augmentation(
        RandomRotation(10), RandomCrop(60, 80), RandomShortSide((60, 70)), RandomFlip(), RandomColour()
    )
    for seed in range(10):
        rng = np.random.default_rng(seed)
        warps = augment.draw([(90, 120)] * 3, rng)
        assert warps[0] == warps[1] == warps[2]
        assert disks().masks[0].shape == (1, 90, 120)


def test_augmentation_repeats_for_a_seed() -> None:
    augment = idol_video_augment((48, 64), 100)
    one, two, other = (augment(disks(), np.random.default_rng(seed)) for seed in (3, 3, 4))
    for a, b in zip(one.images, two.images, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(a.shape != b.shape or (a != b).any() for a, b in zip(one.images, other.images, strict=True))


def test_the_published_video_pipeline() -> None:
    """Half of the clips are cropped, each frame to a window of its own; side and flip are the clip's."""
    augment = idol_video_augment((320, 352), 640)
    cropped = flipped = 0
    for seed in range(300):
        first, second = augment.draw([(720, 1280)] * 2, np.random.default_rng(seed))
        assert [type(step) for step in first] == [type(step) for step in second]
        flipped += isinstance(first[-1], Flip)
        windows = [step for step in (first[0], second[0]) if isinstance(step, Crop)]
        cropped += bool(windows)
        if windows:
            assert windows[0] != windows[1]
            assert all(384 <= side <= 600 for w in windows for side in (w.width, w.height))
            sides = {
                min(step.height, step.width) for step in (first[1], second[1]) if isinstance(step, Resize)
            }
            assert len(sides) == 1
    assert 120 < cropped < 180
    assert 120 < flipped < 180


def test_crops_fit_small_frames_and_cover_all_places() -> None:
    windows = [RandomCrop(384, 600).draw([(100, 500)], np.random.default_rng(s))[0][0] for s in range(200)]
    assert all(isinstance(w, Crop) and w.height == 100 and 384 <= w.width <= 500 for w in windows)
    assert {w.x for w in windows if isinstance(w, Crop) and w.width == 499} <= {0, 1}
    assert min(w.x for w in windows if isinstance(w, Crop)) == 0


def test_either_and_each_frame() -> None:
    flip = RandomFlip(1.0)
    never = RandomFlip(0.0)
    chosen = [Either(0.25, flip, never).draw([(9, 9)], np.random.default_rng(s))[0] for s in range(400)]
    assert 70 < sum(map(bool, chosen)) < 130
    own = EachFrame(RandomFlip()).draw([(9, 9)] * 50, np.random.default_rng(0))
    assert 10 < sum(map(bool, own)) < 40


def test_image_pairs_differ_and_keep_their_objects() -> None:
    clip = disks(1)
    clip = Clip(clip.images * 2, clip.masks * 2, clip.labels, clip.ids, np.zeros(2, np.int64))
    sizes = set()
    for seed in range(20):
        pair = idol_image_augment((48, 64), 100)(clip, np.random.default_rng(seed))
        sizes.add((pair.images[0].shape, pair.images[1].shape))
        for image, mask in zip(pair.images, pair.masks, strict=True):
            assert mask.shape[1:] == image.shape[:2]
            if mask.any():
                assert image[mask[0]].mean() > 180
    assert len(sizes) > 3
