"""A frame's result is indexed as `supervision.Detections` is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ookd.structures import FrameResult

NAMES = ["cat", "dog"]


def result(n: int = 7) -> FrameResult:
    rng = np.random.default_rng(0)
    return FrameResult(
        12,
        np.arange(n) * 3,
        np.arange(n) % 3,
        np.linspace(0.9, 0.3, n).astype(np.float32),
        rng.random((n, 4)).astype(np.float32),
        rng.random((n, 8, 9)) < 0.5,
        NAMES,
        np.zeros((8, 9, 3), np.uint8),
        0.5,
    )


@pytest.mark.parametrize(
    "chosen",
    [
        3,
        -1,
        np.int64(2),
        slice(5),
        slice(None, None, -2),
        [4, 0],
        [],
        np.array([1, 1, 6]),
        np.array([True, False, False, True, True, False, False]),
        np.zeros(7, bool),
    ],
    ids=str,
)
def test_the_same_objects_as_supervision_chooses(chosen: Any) -> None:
    whole = result()
    part, wanted = whole[chosen], whole.to_supervision()[chosen]
    assert len(part) == len(wanted)
    np.testing.assert_array_equal(part.ids, wanted.tracker_id)
    np.testing.assert_array_equal(part.labels, wanted.class_id)
    np.testing.assert_array_equal(part.scores, wanted.confidence)
    np.testing.assert_array_equal(part.boxes_xyxy, wanted.xyxy)
    np.testing.assert_array_equal(part.masks, wanted.mask)
    assert (part.index, part.names, part.seconds) == (12, NAMES, 0.5)
    assert part.image is whole.image


def test_by_what_is_known_and_one_by_one() -> None:
    whole = result()
    assert (whole[whole.scores > 0.5].scores > 0.5).all()
    assert [one.ids.tolist() for one in whole] == [[id] for id in whole.ids.tolist()]


@pytest.mark.parametrize("chosen", [7, -8, [0, 7], np.ones(6, bool)], ids=str)
def test_what_is_not_there_is_an_index_error(chosen: Any) -> None:
    with pytest.raises(IndexError):
        result()[chosen]


def test_the_description_is_short() -> None:
    assert repr(result(2)) == "FrameResult(index=12, [cat 0 (0.90), dog 3 (0.30)])"
    assert repr(result(3)[2]) == "FrameResult(index=12, [class 2 6 (0.30)])"
    assert repr(result(0)) == "FrameResult(index=12, [])"
    many = repr(result(400))
    assert many.endswith(", and 395 more])")
    assert len(many) < 150
