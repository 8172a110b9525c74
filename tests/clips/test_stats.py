"""Numbers that describe a data set, held against hand calculation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import small_set
from ookd.clips.stats import ClassCount, Spread, describe, overlap_rate, plot
from ookd.data.formats import load
from ookd.structures import Category, Dataset


def test_a_set_known_by_hand(tmp_path: Path) -> None:
    stats = describe(load(small_set.write_set(tmp_path)), "mine")
    assert (stats.name, stats.videos, stats.frames, stats.tracks, stats.masks) == ("mine", 2, 4, 3, 6)
    assert stats.classes == [ClassCount("cat", 1, 3), ClassCount("dog", 2, 3)]
    assert stats.video_length == Spread(1, 2, 2, 3)
    assert stats.tracks_per_video == Spread(1, 1.5, 1.5, 2)
    assert stats.track_length == Spread(1, 2, 2, 3)
    assert stats.returning == 1  # the dog of video a
    assert stats.side == Spread(2, math.sqrt(12), pytest.approx((2 + 12**0.5 + 32**0.5) / 3), math.sqrt(32))
    assert stats.sizes == {"small": 3, "medium": 0, "large": 0}
    assert stats.imbalance == 2
    third = -(math.log(1 / 3) / 3 + 2 * math.log(2 / 3) / 3)
    assert stats.effective_classes == pytest.approx(math.exp(third))
    assert stats.overlap == 0


def test_crowds_are_counted_apart(tmp_path: Path) -> None:
    document = small_set.document()
    document["annotations"][2]["iscrowd"] = 1
    stats = describe(load(small_set.write_set(tmp_path, document)))
    assert (stats.tracks, stats.crowds, stats.masks) == (2, 1, 5)


def test_levels_of_occlusion_count_only_masks(tmp_path: Path) -> None:
    document = small_set.document()
    document["annotations"][0]["occlusion"] = ["none", "severe", "severe"]
    document["annotations"][1]["occlusion"] = ["none", "severe", None]
    stats = describe(load(small_set.write_set(tmp_path, document)))
    assert stats.occlusion == {"none": 2, "severe": 2}


def test_a_set_without_objects() -> None:
    stats = describe(Dataset([Category(1, "cat")], []))
    assert (stats.tracks, stats.imbalance, stats.effective_classes, stats.overlap) == (0, 0, 0, 0)
    assert stats.side == Spread(0, 0, 0, 0)


@pytest.mark.parametrize(
    ("boxes", "rate"),
    [
        ([[0, 0, 4, 4]], 0),
        ([[0, 0, 4, 4], [4, 0, 4, 4]], 0),  # they touch
        ([[0, 0, 4, 4], [0, 0, 4, 4]], 1),
        ([[0, 0, 4, 4], [2, 0, 4, 4]], 8 / 24),
        ([[0, 0, 4, 4], [2, 0, 4, 4], [3, 0, 4, 4]], 16 / 28),  # covered thrice counts once
        ([[0, 0, 10, 10], [1, 1, 2, 2]], 4 / 100),
    ],
)
def test_overlap_rate_by_hand(boxes: Any, rate: float) -> None:
    assert overlap_rate(np.array(boxes, float)) == pytest.approx(rate)


WHOLE = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 6), st.integers(1, 6))


@settings(max_examples=50, deadline=None)
@given(st.lists(WHOLE, min_size=1, max_size=6))
def test_overlap_rate_counts_pixels(boxes: list[tuple[int, int, int, int]]) -> None:
    canvas = np.zeros((16, 16), int)
    for x, y, width, height in boxes:
        canvas[y : y + height, x : x + width] += 1
    expected = (canvas > 1).sum() / (canvas > 0).sum()
    assert overlap_rate(np.array(boxes, float)) == pytest.approx(expected)


def test_minor_paste_adds_most_to_the_rare(tmp_path: Path) -> None:
    stats = describe(load(small_set.write_set(tmp_path)), minor_paste=True)
    assert stats.with_minor_paste is not None
    cat, dog = np.array(stats.with_minor_paste) - [1, 2]
    # r(c) = (1 / f(c))^0.5 with f = 1/3, 2/3; 2 clips, half of them with 1 or 2 objects
    assert (cat + dog, cat / dog) == (pytest.approx(2 * 0.5 * 1.5), pytest.approx(math.sqrt(2)))


def test_plot_is_a_picture(tmp_path: Path) -> None:
    dataset = load(small_set.write_set(tmp_path))
    plot(dataset, describe(dataset), tmp_path / "plot.png")
    assert Image.open(tmp_path / "plot.png").size[0] > 1000
