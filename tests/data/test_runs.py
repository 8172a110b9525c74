"""Runs within columns: the same pixels, areas and boxes as the masks they were decoded from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from ookd.data import rle
from ookd.data.runs import ColumnRuns, RleError, runs_of

MASKS = hnp.arrays(np.bool_, st.tuples(st.integers(0, 6), st.integers(1, 12), st.integers(1, 12)))


def columns(masks: np.ndarray) -> ColumnRuns:
    n, height, width = masks.shape
    counts = [mask["counts"] for mask in rle.encode_many(masks)]
    return runs_of(counts, height * width).columns(np.full(n, height))


def painted(runs: ColumnRuns, height: int, width: int) -> np.ndarray:
    """[N, H, W] how often each pixel is in a run."""
    times = np.zeros((len(runs.bounds) - 1, height, width), int)
    for n, (first, stop) in enumerate(zip(runs.bounds[:-1], runs.bounds[1:], strict=True)):
        for r in range(first, stop):
            times[n, runs.top[r] : runs.bottom[r], runs.column[r]] += 1
    return times


@settings(max_examples=150, deadline=None)
@given(MASKS)
def test_runs_paint_their_masks_once_and_in_order(masks: np.ndarray) -> None:
    runs = columns(masks)
    assert np.array_equal(painted(runs, *masks.shape[1:]), masks)
    assert (runs.top < runs.bottom).all()
    mask_of = np.repeat(np.arange(len(masks)), np.diff(runs.bounds))
    order = np.lexsort((runs.top, runs.column, mask_of))
    assert np.array_equal(order, np.arange(len(order)))


@settings(max_examples=150, deadline=None)
@given(MASKS)
def test_areas_and_boxes_are_those_of_pycocotools(masks: np.ndarray) -> None:
    runs = columns(masks)
    reference = [coco.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]
    assert runs.areas().tolist() == [int(coco.area(mask)) for mask in reference]
    assert runs.boxes_xywh().tolist() == [coco.toBbox(mask).tolist() for mask in reference]


def test_masks_of_several_sizes_and_more_pixels_than_32_bits_count() -> None:
    """Eight frames of 2**29 pixels and small ones between them; all but a corner of each is background."""
    sizes = [(2**14, 2**15), (3, 5)] * 8
    corner = [[h * w - 2, 2] for h, w in sizes]
    counts = [
        coco.frPyObjects({"size": [h, w], "counts": runs}, h, w)["counts"].decode()
        for (h, w), runs in zip(sizes, corner, strict=True)
    ]
    height, width = np.array(sizes).T
    runs = runs_of(counts, height * width).columns(height)
    assert runs.areas().tolist() == [2] * 16
    assert runs.boxes_xywh().tolist() == [[w - 1, h - 2, 1, 2] for h, w in sizes]


def test_one_bad_mask_among_many_is_found() -> None:
    noise = np.random.default_rng(2).random((20, 12, 13)) < 0.3
    good = [mask["counts"] for mask in rle.encode_many(noise)]
    runs_of(good, 12 * 13)
    too_long = coco.frPyObjects({"size": [12, 13], "counts": [100, 57]}, 12, 13)["counts"].decode()
    for place in (0, 7, 19):
        bad = [*good[:place], too_long, *good[place + 1 :]]
        with pytest.raises(RleError, match="add up"):
            runs_of(bad, 12 * 13)
