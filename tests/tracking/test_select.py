"""Which queries are tracked: score filter and suppression, for any frames at all."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ookd.config.tracker import TrackerConfig
from ookd.tracking.select import mask_iou, mask_places, select_queries, suppress


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.95))
def test_suppression_leaves_no_overlap_and_removes_nothing_without_one(seed: int, limit: float) -> None:
    rng = np.random.default_rng(seed)
    masks = rng.random((10, 5, 6)) < rng.random((10, 1, 1))
    iou = mask_iou(masks)
    kept = suppress(iou, limit)
    for row in range(10):
        stronger = kept[kept < row]
        assert (row in kept) == (not (iou[stronger, row] > limit).any())
    assert np.all(np.diff(kept) > 0)


def test_mask_iou_by_hand() -> None:
    masks = np.zeros((3, 2, 4), bool)
    masks[0, 0] = True  # 4 pixels
    masks[1, 0, :2] = masks[1, 1, :2] = True  # 4 pixels, 2 shared
    np.testing.assert_allclose(mask_iou(masks), [[1, 2 / 6, 0], [2 / 6, 1, 0], [0, 0, 1]], atol=1e-5)


def test_mask_places_by_hand() -> None:
    masks = np.zeros((2, 4, 6), bool)
    masks[0, 1:3, 2:4] = True  # 2 x 2 cells around (3, 2)
    np.testing.assert_allclose(mask_places(masks, 0.25), [[0.75, 0.5, 0.5], [0, 0, 0]])


def test_the_best_query_is_kept_when_none_is_good() -> None:
    probs = np.array([[0.01, 0.02], [0.05, 0.01], [0.03, 0.03]], np.float32)
    assert select_queries(probs, None, TrackerConfig()).tolist() == [1]


def test_boxes_of_another_class_do_not_suppress() -> None:
    probs = np.array([[0.9, 0.1], [0.1, 0.8], [0.7, 0.1]], np.float32)
    boxes = np.tile(np.array([0.5, 0.5, 0.2, 0.2], np.float32), (3, 1))
    assert select_queries(probs, boxes, TrackerConfig()).tolist() == [0, 1]
