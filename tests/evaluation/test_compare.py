"""The paired bootstrap: scores of the set itself, intervals as a direct resampling gives them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import ookd
from evaluation.scenes import copied, random_world, truth, tube
from ookd import UserError
from ookd.evaluation.compare import compare
from ookd.structures import Dataset, TrackResult

BOX = (3, 3, 23, 23)


def test_scores_are_those_of_the_reports() -> None:
    dataset, results = random_world(11, videos=8)
    _, others = random_world(12, videos=8)
    a, b = ookd.evaluate(dataset, results), ookd.evaluate(dataset, others)
    found = compare(a, b, resamplings=50)
    assert (found.ap.a, found.ap.b) == pytest.approx((a.ap, b.ap))
    assert found.ap50.a == pytest.approx(a.summary["AP50"])
    for name, difference in found.per_class.items():
        assert difference.a == pytest.approx(a.per_class[name].ap)
    for name, cause in a.errors.items():
        assert found.errors[name].a == pytest.approx(cause.ap)


def test_every_resampling_is_scored_as_a_set_of_copies() -> None:
    """Drawing a video twice is scoring a set in which it stands twice."""
    dataset, results = random_world(13, videos=5)
    others = [replace(result, score=1.1 - result.score) for result in results]
    a, b = ookd.evaluate(dataset, results), ookd.evaluate(dataset, others)
    found = compare(a, b, resamplings=40, seed=7)
    drawn = np.random.default_rng(7).multinomial(5, np.full(5, 0.2), 40)
    differences = [copied_ap(dataset, results, times) - copied_ap(dataset, others, times) for times in drawn]
    low, high = np.percentile(differences, [2.5, 97.5])
    assert (found.ap.low, found.ap.high) == pytest.approx((low, high))


def copied_ap(dataset: Dataset, results: list[TrackResult], times: np.ndarray) -> float:
    return max(ookd.evaluate(*copied(dataset, results, times)).ap, 0.0)


def test_a_clear_difference_is_certain_and_none_is_not() -> None:
    tracks = [(v, 1, tube(BOX, BOX)) for v in range(1, 21)]
    dataset = truth(tracks, categories=1, frames=2, videos=20)
    good = [TrackResult(v, 1, 0.5, masks) for v, _, masks in tracks]
    a, b = ookd.evaluate(dataset, good), ookd.evaluate(dataset, good[:8])
    found = compare(a, b)
    assert found.ap.certain
    assert found.ap.difference == pytest.approx(a.ap - b.ap)
    assert 0.3 < found.ap.low < found.ap.difference < found.ap.high < 0.9
    assert found.errors["missed"].certain
    same = compare(a, a)
    assert (same.ap.low, same.ap.high) == (0, 0)
    assert not same.ap.certain


def test_results_on_different_videos_are_refused() -> None:
    a = ookd.evaluate(*random_world(1, videos=3))
    b = ookd.evaluate(*random_world(1, videos=4))
    with pytest.raises(UserError, match="same videos"):
        compare(a, b)
