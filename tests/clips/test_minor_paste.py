"""Minor-Paste: geometry, occlusion, the law of classes, identity."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from scipy.stats import chisquare

from ookd.clips.cutouts import MARGIN, CutOut, CutOutBank, Piece, class_probabilities
from ookd.clips.loader import boxes_of, make_loader
from ookd.clips.minor_paste import PASTED, MinorPaste, MinorPasteConfig, Placement, paste
from ookd.clips.sampling import ClipSampler
from ookd.clips.sources import ClipDataset
from ookd.errors import UserError
from ookd.structures import Clip

H, W = 48, 64
COLOURS = np.array([[250, 40, 40], [40, 250, 40], [40, 40, 250]], np.uint8)


class Walkers:
    """Video i shows one L-shaped object in the colour of its class, walking (3, 1) a frame."""

    names = ("red", "green", "blue")

    def __init__(self, classes: Sequence[int], length: int = 8) -> None:
        self.classes, self.length = list(classes), length

    def __len__(self) -> int:
        return len(self.classes)

    def video_length(self, i: int) -> int:
        return self.length

    def labels(self, i: int) -> list[int]:
        return [self.classes[i]]

    def class_counts(self) -> list[int]:
        return [self.classes.count(label) for label in range(3)]

    def clip(self, i: int, frames: Sequence[int]) -> Clip:
        masks = [shape(10 + frame, 5 + 3 * frame) for frame in frames]
        images = [np.where(mask[..., None], COLOURS[self.classes[i]], 90).astype(np.uint8) for mask in masks]
        label = np.array([self.classes[i]])
        return Clip(images, [m[None] for m in masks], label, np.array([i]), np.array(frames), f"video {i}")


def shape(y: int, x: int) -> np.ndarray:
    """An L of 12 x 8 pixels, not symmetric in any way."""
    mask = np.zeros((H, W), np.bool_)
    mask[y : y + 12, x : x + 3] = True
    mask[y + 8 : y + 12, x : x + 8] = True
    return mask


def backdrop(frames: int = 1, masks: Sequence[np.ndarray] = ()) -> Clip:
    rng = np.random.default_rng(9)
    images = [rng.integers(0, 256, (H, W, 3), np.uint8) for _ in range(frames)]
    ids = np.arange(len(masks)) + 1
    return Clip(
        images, [np.array(masks, np.bool_).reshape(-1, H, W)] * frames, ids % 3, ids, np.arange(frames)
    )


def cut(mask: np.ndarray, label: int = 2) -> Piece:
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    y, x, h, w = rows[0], columns[0], len(rows), len(columns)
    image = np.broadcast_to(COLOURS[label], (h + 2 * MARGIN, w + 2 * MARGIN, 3)).copy()
    return Piece(image, mask[y : y + h, x : x + w], int(x), int(y))


def cutout(*masks: np.ndarray | None) -> CutOut:
    return CutOut(2, [None if mask is None else cut(mask) for mask in masks], (H, W), "elsewhere", 7)


def at(
    scale: float = 1.0, flip: bool = False, shift: tuple[float, float] = (0.0, 0.0), frames: int = 1
) -> Placement:
    return Placement(scale, flip, np.array([shift] * frames, np.float64))


# --- geometry ----------------------------------------------------------------------------------------------


def warped(mask: np.ndarray, scale: float, flip: bool, shift: tuple[float, float]) -> np.ndarray:
    """The definition, pixel by pixel: does this pixel's centre come from inside the object?"""
    result = np.zeros_like(mask)
    for y in range(H):
        for x in range(W):
            u, v = (x + 0.5 - shift[0]) / scale, (y + 0.5 - shift[1]) / scale
            u = W - u if flip else u
            column, row = int(np.floor(u)), int(np.floor(v))
            result[y, x] = 0 <= column < W and 0 <= row < H and mask[row, column]
    return result


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    ("scale", "shift"),
    [
        (1.0, (0.0, 0.0)),
        (1.0, (11.0, -4.0)),
        (2.0, (-20.0, -30.0)),
        (0.5, (3.2, 8.1)),
        (1.37, (-7.313, 2.717)),
    ],
)
def test_the_pasted_mask_is_the_warped_mask(scale: float, flip: bool, shift: tuple[float, float]) -> None:
    clip = backdrop()
    result = paste(clip, [(cutout(shape(15, 25)), at(scale, flip, shift))], 0.1)
    expected = warped(shape(15, 25), scale, flip, shift)
    assert expected.sum() > 10
    np.testing.assert_array_equal(result.masks[0][0], expected)
    np.testing.assert_array_equal(
        result.images[0][expected], np.broadcast_to(COLOURS[2], (expected.sum(), 3))
    )
    np.testing.assert_array_equal(result.images[0][~expected], clip.images[0][~expected])


def test_pixels_are_those_of_the_object() -> None:
    """At scale 1 and whole shifts nothing is interpolated: the very pixels, also mirrored."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (12 + 2 * MARGIN, 8 + 2 * MARGIN, 3), np.uint8)
    piece = replace(cut(shape(15, 25)), image=texture)
    own = texture[MARGIN:-MARGIN, MARGIN:-MARGIN]
    layer = CutOut(2, [piece], (H, W), "", 0)
    plain = paste(backdrop(), [(layer, at(shift=(5, 3)))], 0.1)
    np.testing.assert_array_equal(plain.images[0][18:30, 30:38][piece.mask], own[piece.mask])
    mirrored = paste(backdrop(), [(layer, at(flip=True, shift=(0, 0)))], 0.1)
    x = W - 25 - 8
    np.testing.assert_array_equal(mirrored.images[0][15:27, x : x + 8][:, ::-1][piece.mask], own[piece.mask])


def test_the_given_clip_stays_as_it_was() -> None:
    clip = backdrop(2, [shape(10, 10)])
    before = [image.copy() for image in clip.images], clip.masks[0].copy()
    paste(clip, [(cutout(shape(10, 10), shape(12, 12)), at(frames=2))], 0.1)
    np.testing.assert_array_equal(clip.images, before[0])
    np.testing.assert_array_equal(clip.masks[0], before[1])


# --- occlusion ---------------------------------------------------------------------------------------------


def square(y: int, x: int, side: int = 10) -> np.ndarray:
    mask = np.zeros((H, W), np.bool_)
    mask[y : y + side, x : x + side] = True
    return mask


def test_what_is_covered_is_cut_from_masks_and_boxes() -> None:
    clip = backdrop(1, [square(10, 10)])
    result = paste(clip, [(cutout(square(5, 14, 20)), at())], 0.1)
    assert result.ids.tolist() == [1, PASTED]
    np.testing.assert_array_equal(result.masks[0][0], square(10, 10) & ~square(5, 14, 20))
    left_four_columns = [12 / W, 15 / H, 4 / W, 10 / H]
    np.testing.assert_allclose(boxes_of(result.masks[0])[0], left_four_columns, rtol=1e-6)


def test_too_little_left_does_not_count_as_seen_in_that_frame() -> None:
    """8 of 10 columns are covered in frame 0 and none in frame 1."""
    layer = cutout(square(5, 12, 20), square(25, 40, 20))
    clip = backdrop(2, [square(10, 10)])
    kept = paste(clip, [(layer, at(frames=2))], 0.2)
    assert kept.masks[0][0].sum() == 20
    dropped = paste(clip, [(layer, at(frames=2))], 0.21)
    assert [frame[0].sum() for frame in dropped.masks] == [0, 100]
    assert dropped.ids.tolist() == [1, PASTED]


def test_an_instance_hidden_in_all_frames_is_dropped() -> None:
    result = paste(backdrop(1, [square(10, 10), square(30, 50)]), [(cutout(square(8, 8, 16)), at())], 0.1)
    assert result.ids.tolist() == [2, PASTED]
    assert result.labels.tolist() == [2, 2]
    assert len(result.masks[0]) == 2


def test_the_last_layer_is_uppermost() -> None:
    result = paste(backdrop(), [(cutout(square(10, 10)), at()), (cutout(square(10, 16)), at())], 0.1)
    assert result.ids.tolist() == [PASTED, PASTED + 1]
    assert result.masks[0].sum((1, 2)).tolist() == [60, 100]
    assert not result.masks[0].all(axis=0).any()


def test_masks_never_overlap_where_they_did_not_before() -> None:
    source = Walkers([0, 1, 2, 2])
    stage = MinorPaste(source, MinorPasteConfig(probability=1, most=3))
    for seed in range(30):
        clip = stage(source.clip(0, [0, 2, 4]), np.random.default_rng(seed))
        assert all(frame.sum(axis=0).max() <= 1 for frame in clip.masks)


def test_an_object_mostly_outside_is_not_drawn() -> None:
    clip = backdrop()
    result = paste(clip, [(cutout(square(10, 10)), at(shift=(-19.0, 0.0)))], 0.11)  # 1 of 10 columns
    np.testing.assert_array_equal(result.images[0], clip.images[0])
    assert len(result.ids) == 0


# --- the law of classes ------------------------------------------------------------------------------------


def test_the_law_by_hand() -> None:
    """Shares .64 .16 .16 .04: gamma .5 makes r = 1/.8, 1/.4, 1/.4, 1/.2."""
    counts = [64, 16, 16, 4]
    np.testing.assert_allclose(class_probabilities(counts, 1.0, 0.5), np.array([1, 2, 2, 4]) / 9)
    np.testing.assert_allclose(class_probabilities(counts, 0.16, 0.5), np.array([1, 1, 1, 2]) / 5)
    np.testing.assert_allclose(class_probabilities(counts, 1.0, 0.0), [0.25] * 4)
    np.testing.assert_allclose(class_probabilities([3, 0, 1], 1.0, 1.0), [0.25, 0, 0.75])


def test_pasted_classes_follow_the_law() -> None:
    """9 videos of one class and 1 of another: gamma .5 draws the rare one in 3 of 4 cases."""
    source = Walkers([0] * 9 + [2])
    clip = replace(backdrop(2), video="none of them")
    stage = MinorPaste(source, MinorPasteConfig(probability=1, most=1, gamma=0.5))
    rng = np.random.default_rng(0)
    labels = [int(label) for _ in range(400) for label in stage(clip, rng).labels]
    assert len(labels) > 390
    counts = [labels.count(0), labels.count(2)]
    assert chisquare(counts, np.array([0.25, 0.75]) * len(labels)).pvalue > 1e-3
    np.testing.assert_allclose(stage.expected_per_clip(), [0.25, 0, 0.75])


def test_the_share_of_clips_and_the_number_of_objects() -> None:
    source = Walkers([0, 1, 2, 0, 1, 2])
    stage = MinorPaste(source, MinorPasteConfig(probability=0.3, most=2))
    clip = replace(backdrop(2), video="none of them")
    rng = np.random.default_rng(1)
    numbers = [len(stage(clip, rng).ids) for _ in range(1000)]
    counts = [numbers.count(n) for n in (0, 1, 2)]
    assert chisquare(counts, [700, 150, 150]).pvalue > 1e-4
    assert stage.expected_per_clip().sum() == pytest.approx(0.45)


# --- identity ----------------------------------------------------------------------------------------------


def centres(clip: Clip, n: int) -> np.ndarray:
    """[T, 2] x y"""
    return np.array([np.argwhere(frame[n]).mean(axis=0)[::-1] for frame in clip.masks])


def test_one_object_has_one_id_and_its_own_motion_in_all_frames() -> None:
    """Walking (3, 1) a frame at frames 0, 2, 3; the size is kept and no drift is added."""
    source = Walkers([2, 2])
    config = MinorPasteConfig(probability=1, most=1, scale=(1.0, 1.0), drift=0, min_visible=1)
    stage = MinorPaste(source, config)
    clip = Clip(
        *(getattr(backdrop(3), name) for name in ("images", "masks", "labels", "ids")), np.array([0, 2, 3])
    )
    flips = set()
    for seed in range(40):
        result = stage(clip, np.random.default_rng(seed))
        if all(frame.any() for frame in result.masks):
            assert result.ids.tolist() == [PASTED]
            steps = np.diff(centres(result, 0), axis=0)
            flips.add(bool(steps[0, 0] < 0))
            np.testing.assert_allclose(abs(steps), [[6, 2], [3, 1]], atol=0.01)
    assert flips == {False, True}


def test_a_short_video_runs_back_and_forth() -> None:
    bank = CutOutBank(Walkers([1], length=3))
    result = bank.draw(np.arange(6), np.random.default_rng(0))
    assert result is not None
    assert [piece and piece.x for piece in result.pieces] == [5, 8, 11, 8, 5, 8]


def test_images_give_a_still_cut_out_that_moves_smoothly() -> None:
    source = Walkers([2, 2], length=1)
    stage = MinorPaste(
        source, MinorPasteConfig(probability=1, most=1, drift=0.02, min_visible=1, scale=(1.0, 1.0))
    )
    moved = 0
    for seed in range(40):
        image = source.clip(0, [0] * 6)
        result = stage(image, np.random.default_rng(seed))
        if PASTED in result.ids and all(frame[-1].any() for frame in result.masks):
            areas = [int(frame[-1].sum()) for frame in result.masks]
            assert max(areas) - min(areas) <= 12  # the same outline, on another part of the pixel grid
            steps = np.diff(centres(result, -1), axis=0)
            assert abs(np.diff(steps, axis=0)).max() < 2.5
            moved += bool(abs(steps).sum() > 3)
    assert moved > 10


def test_nothing_is_pasted_into_its_own_video_or_twice() -> None:
    source = Walkers([0, 1])
    stage = MinorPaste(source, MinorPasteConfig(probability=1, most=5))
    for seed in range(30):
        labels = stage(source.clip(0, [0, 1]), np.random.default_rng(seed)).labels.tolist()
        assert labels in ([0], [0, 1], [1])


def test_the_same_chance_gives_the_same_clip_whatever_is_remembered() -> None:
    source = Walkers([0, 1, 2, 1, 0, 2])
    fresh, used = (MinorPaste(source, MinorPasteConfig(probability=1)) for _ in range(2))
    for seed in range(20):
        used(source.clip(1, [1, 2]), np.random.default_rng(seed + 100))
    one, two = (stage(source.clip(0, [0, 3]), np.random.default_rng(5)) for stage in (fresh, used))
    np.testing.assert_array_equal(one.images, two.images)
    np.testing.assert_array_equal(one.masks, two.masks)


def test_a_data_set_with_a_used_bank_travels_to_another_process() -> None:
    source = Walkers([0, 1, 2, 1])
    clips = ClipDataset(source, ClipSampler(3, 2), [MinorPaste(source, MinorPasteConfig(probability=1))])
    here = clips[0, 1]
    there = pickle.loads(pickle.dumps(clips))[0, 1]
    np.testing.assert_array_equal(here.images, there.images)
    assert len(pickle.dumps(clips)) < 5000  # what the bank remembers stays behind


def test_a_large_source_frame_fits_into_a_small_clip() -> None:
    """From 16 times the size: the object fills at most 0.8 of the frame and keeps its colour."""
    large = np.kron(shape(10, 5), np.ones((16, 16), np.bool_))
    layer = CutOut(1, [cut(large, 1)], large.shape, "large", 0)
    stage = MinorPaste(Walkers([0]), MinorPasteConfig(scale=(30.0, 30.0)))
    placement = stage._place(layer, backdrop(), np.arange(1), np.random.default_rng(0))
    result = paste(backdrop(), [(layer, placement)], 0.0)
    rows = np.flatnonzero(result.masks[0][0].any(axis=1))
    assert placement.scale == pytest.approx(0.8 * H / 16 / 12)
    assert len(rows) <= 0.8 * H + 1
    assert (result.images[0][result.masks[0][0]] == COLOURS[1]).all()


def test_nothing_to_cut_out_is_an_error() -> None:
    with pytest.raises(UserError, match="the data has none"):
        MinorPaste(Walkers([]), MinorPasteConfig())


def test_batches_with_pasted_objects_do_not_depend_on_workers() -> None:
    def batches(workers: int) -> list[np.ndarray]:
        source = Walkers([0, 1, 2, 1, 0, 2])
        clips = ClipDataset(source, ClipSampler(3, 2), [MinorPaste(source, MinorPasteConfig(probability=1))])
        loader = make_loader(clips, 2, workers=workers)
        return [batch.frames.numpy() for batch in islice(loader, 5)]

    np.testing.assert_array_equal(batches(0), batches(2))
