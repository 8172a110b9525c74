"""Switches are counted where both students find the object, and from one such mask to the next."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from learning.shared_switches import matched, shared_switches, video_of_masks
from ookd.data import rle
from ookd.structures import Track, TrackResult, Video


def bar(left: int) -> rle.Rle:
    mask = np.zeros((8, 16), bool)
    mask[:, left : left + 4] = True
    return rle.encode(mask)


def truth(category: int, lefts: list[int | None]) -> Track:
    masks = [None if left is None else bar(left) for left in lefts]
    return Track(0, category, masks, [None] * len(masks), [None] * len(masks))


def result(category: int, lefts: list[int | None]) -> TrackResult:
    return TrackResult(1, category, 0.5, [None if left is None else bar(left) for left in lefts])


VIDEO = Video(1, 16, 8, ["0", "1", "2"], [truth(1, [0, 0, None]), truth(1, [8, 8, 8]), truth(2, [4, 4, 4])])


def test_a_true_mask_is_matched_to_who_overlaps_it_by_half() -> None:
    results = [
        result(1, [0, 9, 7]),  # goes over to the second object
        result(1, [8, 0, None]),  # and this one to the first
        result(1, [None, 11, None]),  # overlaps by less than half
        result(3, [4, 4, 4]),  # is of another class
    ]
    assert list(matched(VIDEO, results)) == [0, 1, 1, 0, 0, -1, -1, -1]


def test_only_masks_that_both_found_count() -> None:
    masks = video_of_masks([VIDEO, VIDEO])
    assert masks.tolist() == [[0, n] for n in [0, 0, 1, 1, 1, 2, 2, 2]] + [
        [1, n] for n in [3, 3, 4, 4, 4, 5, 5, 5]
    ]
    a = [0, 1, 1, 0, 1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0]
    b = [5, 5, 5, -1, 5, 6, 7, 8, 0, 0, 0, -1, 1, 2, 2, 2]
    # the first of a's switches on its second object lies on a mask that b misses
    assert shared_switches(np.array(a), np.array(b), masks).tolist() == [[1, 0, 4], [0, 1, 7]]
