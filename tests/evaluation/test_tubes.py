"""Shared areas of masks, against counting pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ookd.data import rle
from ookd.evaluation.tubes import measure_tubes, overlap

H, W, T = 17, 23, 5


def noisy(rng: np.random.Generator, tracks: int, density: float) -> np.ndarray:
    """[N, T, H, W] half planes that cross columns, with holes; some masks absent, some tracks never seen."""
    masks = rng.random((tracks, T, H, W)) < density
    masks |= np.arange(W) < rng.integers(0, W, (tracks, T, 1, 1))
    masks &= rng.random((tracks, T, H, W)) < rng.choice([0.7, 1], (tracks, 1, 1, 1))
    masks &= rng.random((tracks, T, 1, 1)) < 0.8
    masks &= rng.random((tracks, 1, 1, 1)) < 0.9
    return masks


def written(tracks: np.ndarray, rng: np.random.Generator) -> list[list[Any]]:
    """Empty masks as null, or as a mask without foreground."""
    return [
        [rle.encode(mask) if mask.any() or rng.random() < 0.5 else None for mask in track] for track in tracks
    ]


@pytest.mark.parametrize("density", [0.0, 0.1, 0.5])
def test_shared_areas_are_the_pixels_in_both_masks(density: float) -> None:
    rng = np.random.default_rng(int(10 * density))
    for results, truths in ((7, 4), (1, 6), (5, 0), (0, 3)):
        result_masks, truth_masks = noisy(rng, results, density), noisy(rng, truths, density / 2)
        result_tubes, wrong = measure_tubes(written(result_masks, rng), T, H, W)
        truth_tubes, wrong_truth = measure_tubes(written(truth_masks, rng), T, H, W)
        assert not wrong | wrong_truth
        compared = overlap(result_tubes, truth_tubes)
        both = result_masks[:, None] & truth_masks
        either = result_masks[:, None] | truth_masks
        assert np.array_equal(compared.shared, both.sum((3, 4)))
        assert np.array_equal(compared.result_area, result_masks.sum((2, 3)))
        expected = both.sum((2, 3, 4)) / np.maximum(either.sum((2, 3, 4)), 1)
        assert np.array_equal(compared.track_iou, expected)
        assert np.array_equal(compared.frame_iou(), both.sum((3, 4)) / np.maximum(either.sum((3, 4)), 1))


def test_masks_of_another_size_share_nothing_and_lists_may_end_early() -> None:
    """As the official program takes them: frame 1 is of another size, frame 2 is past the result's end."""
    full = np.ones((4, 6), bool)
    truth = [[rle.encode(full)] * 3]
    result = [[rle.encode(full & (np.arange(6) < 3)), rle.encode(np.ones((9, 2), bool))]]
    compared = overlap(
        measure_tubes(result, 2, 4, 6, any_size=True)[0], measure_tubes(truth, 3, 4, 6, any_size=True)[0]
    )
    assert compared.shared.tolist() == [[[12, 0]]]
    assert compared.track_iou.tolist() == [[0.5]]
