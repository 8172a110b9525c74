"""Box arithmetic against hand calculation."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ookd.boxes import area, giou, iou, to_xyxy


def box(*corners: float) -> Tensor:
    return torch.tensor(corners, dtype=torch.float64)


def test_conversions() -> None:
    assert to_xyxy(box(0.5, 0.4, 0.2, 0.6)).tolist() == pytest.approx([0.4, 0.1, 0.6, 0.7])


@pytest.mark.parametrize(
    ("other", "expected_iou", "expected_giou"),
    [
        ((0, 0, 2, 2), 1, 1),
        ((1, 1, 3, 3), 1 / 7, 1 / 7 - 2 / 9),  # hull 9, union 7
        ((0, 0, 1, 2), 1 / 2, 1 / 2),
        ((3, 0, 5, 2), 0, -2 / 10),  # apart: hull 10, union 8
        ((1, 1, 1, 1), 0, 0),  # a point inside
    ],
)
def test_iou_and_giou_with_a_two_by_two_box(
    other: tuple[float, ...], expected_iou: float, expected_giou: float
) -> None:
    square = box(0, 0, 2, 2)
    assert iou(square, box(*other)).item() == pytest.approx(expected_iou)
    assert giou(square, box(*other)).item() == pytest.approx(expected_giou, abs=1e-6)


def test_two_empty_boxes_have_no_overlap() -> None:
    point = box(1, 1, 1, 1)
    assert area(point) == 0
    assert iou(point, point) == 0
    assert torch.isfinite(giou(point, point))


def test_pairwise_by_broadcasting() -> None:
    many, few = torch.rand(5, 4), torch.rand(3, 4)
    table = giou(to_xyxy(many)[:, None], to_xyxy(few))
    assert table.shape == (5, 3)
    assert table[4, 2] == giou(to_xyxy(many[4]), to_xyxy(few[2]))


@given(st.lists(st.floats(0.05, 0.95), min_size=8, max_size=8))
def test_giou_is_bounded_and_never_above_iou(numbers: list[float]) -> None:
    a, b = to_xyxy(box(*numbers[:4])), to_xyxy(box(*numbers[4:]))
    assert -1 <= giou(a, b) <= iou(a, b) + 1e-9 <= 1 + 1e-6
    assert iou(a, b) == pytest.approx(iou(b, a).item())
