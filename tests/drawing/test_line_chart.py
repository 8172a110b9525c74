"""Charts: every point at its place, and nothing that is not a number."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from ookd.drawing.line_chart import (
    BOTTOM,
    HEIGHT,
    LEFT,
    POINTS,
    RIGHT,
    TOP,
    WIDTH,
    _axis,
    _smooth,
    _thinned,
    line_chart,
)


def points(svg: str) -> list[list[tuple[float, ...]]]:
    return [
        [tuple(map(float, pair.split(","))) for pair in places.split()]
        for places in re.findall(r'points="([^"]*)"', svg)
    ]


def test_corners_of_the_axes() -> None:
    (line,) = points(line_chart("x", {"": [(10, 0.0), (20, 3.0), (30, 1.5)]}))
    assert line == [
        (LEFT, HEIGHT - BOTTOM),
        ((LEFT + WIDTH - RIGHT) / 2, TOP),
        (WIDTH - RIGHT, (TOP + HEIGHT - BOTTOM) / 2),
    ]


def test_the_newest_value_and_the_names_of_several_curves_are_told() -> None:
    drawn = line_chart("loss <b>", {"a": [(1, 2.0), (2, 0.5)], "b": [(1, 1.0), (2, 0.25)]}, "{:.2f}")
    assert "loss &lt;b&gt;" in drawn
    assert re.findall(r">([ab] [\d.]+)<", drawn) == ["a 0.50", "b 0.25"]
    assert len(points(drawn)) == 2


def test_one_point_is_a_dot_and_none_is_nothing() -> None:
    assert "<circle" in line_chart("x", {"": [(5, 1.0)]})
    assert line_chart("x", {"a": [], "b": [(1, math.nan), (2, math.inf)]}) == ""


def test_points_that_are_not_numbers_are_left_out() -> None:
    (line,) = points(line_chart("x", {"": [(1, 1.0), (2, math.nan), (3, 1.0)]}))
    assert len(line) == 2


def test_a_long_curve_is_averaged_in_groups() -> None:
    thin = _thinned([(step, step % 2) for step in range(4 * POINTS)])
    assert thin.shape == (POINTS, 2)
    assert (thin[:, 1] == 0.5).all()
    assert thin[:, 0].tolist() == [4 * i + 1.5 for i in range(POINTS)]
    assert len(_thinned([(step, 0.0) for step in range(POINTS + 60)])) == POINTS // 2 + 30


def test_the_running_mean_takes_what_there_is() -> None:
    curve = np.stack([np.arange(30.0), np.arange(30.0)], 1)
    smooth = _smooth(curve)[:, 1]
    assert smooth[0] == 0
    assert smooth[4] == pytest.approx(2)  # mean of 0 to 4
    assert smooth[29] == pytest.approx(23.5)  # mean of 18 to 29


@pytest.mark.parametrize(
    ("values", "floor", "ticks"),
    [
        ([0.3, 0.9], True, [0, 0.5, 1]),
        ([2.0, 7.0], True, [0, 5, 10]),
        ([40, 60], False, [40, 50, 60]),
        ([0, 0], True, [0, 0.5, 1]),
    ],
)
def test_axes_end_at_round_numbers(values: list[float], floor: bool, ticks: list[float]) -> None:
    low, high, found = _axis(np.array(values), floor)
    assert found == pytest.approx(ticks)
    assert (low, high) == (found[0], found[-1])


def test_a_wild_beginning_does_not_flatten_the_rest() -> None:
    values = np.ones(200)
    values[0] = 1e6
    assert _axis(values, True)[1] < 3
