"""Each cause of error planted alone is reported alone, at the cost that counting by hand gives."""

from __future__ import annotations

import numpy as np
import pytest

import ookd
from evaluation.scenes import random_world, truth, tube
from ookd.evaluation import errors
from ookd.evaluation.causes import CAUSES
from ookd.structures import Dataset, TrackResult

A, B, FAR = (2, 2, 22, 22), (30, 4, 50, 30), (30, 34, 50, 40)
HALF = (2, 2, 22, 15)  # 13 of A's 20 rows: IoU 0.65
FRAMES = 4


def four(box) -> list:
    return tube(*[box] * FRAMES)


def perfect() -> tuple[Dataset, list[TrackResult]]:
    """Object A of class 1 and B of class 2, both found exactly."""
    dataset = truth([(1, 1, four(A)), (1, 2, four(B))], categories=2, videos=1)
    return dataset, [TrackResult(1, 1, 0.8, four(A)), TrackResult(1, 2, 0.8, four(B))]


def gains(dataset: Dataset, results: list[TrackResult]) -> dict[str, float]:
    report = ookd.evaluate(dataset, results)
    return {name: cause.ap for name, cause in report.errors.items() if abs(cause.ap) > 1e-12}


def test_nothing_planted_nothing_reported() -> None:
    dataset, results = perfect()
    assert ookd.evaluate(dataset, results).ap == pytest.approx(1)
    assert gains(dataset, results) == {}


def test_wrong_class() -> None:
    dataset, results = perfect()
    results[0].category_id, results[0].score = (
        2,
        0.7,
    )  # none of class 1 left; class 2 is wrong after being right
    assert gains(dataset, results) == {"class": pytest.approx(0.5)}


def test_a_found_track_said_again_in_another_class_is_no_find_of_its_neighbour() -> None:
    """It covers A, which is found; beside it a little of B, which is not: fixed, it goes; B stays missed."""
    neighbour = (2, 16, 22, 36)  # IoU with A 120 / 680
    dataset = truth([(1, 1, four(A)), (1, 3, four(neighbour)), (2, 2, four(B))])
    results = [
        TrackResult(1, 1, 0.9, four(A)),
        TrackResult(1, 2, 0.8, four(A)),
        TrackResult(2, 2, 0.7, four(B)),
    ]
    assert gains(dataset, results) == {"class": pytest.approx(0.5 / 3), "missed": pytest.approx(1 / 3)}


def test_duplicate() -> None:
    """A worse copy before a right track of another video halves the precision there."""
    dataset = truth([(1, 1, four(A)), (2, 1, four(B))], categories=1)
    results = [
        TrackResult(1, 1, 0.9, four(A)),
        TrackResult(1, 1, 0.8, four(A)),
        TrackResult(2, 1, 0.7, four(B)),
    ]
    lost = 1 - (51 * 1 + 50 * 2 / 3) / 101  # recall 0 .. 0.5 at precision 1, the rest at 2 / 3
    assert gains(dataset, results) == {"duplicate": pytest.approx(lost)}


def test_identity_switch() -> None:
    """Two objects of a class exchange their identities half-way: all masks exact, no track right."""
    dataset = truth([(1, 1, four(A)), (1, 1, four(B))], categories=1, videos=1)
    results = [TrackResult(1, 1, 0.9, tube(A, A, B, B)), TrackResult(1, 1, 0.8, tube(B, B, A, A))]
    report = ookd.evaluate(dataset, results)
    assert report.ap == 0
    assert report.errors["identity"].count == 2
    assert set(gains(dataset, results)) == {"identity"}


def test_fragment() -> None:
    """A track that breaks off after one frame of four and goes on under another identity."""
    dataset = truth([(1, 1, four(A))], categories=1, videos=1)
    results = [
        TrackResult(1, 1, 0.9, tube(A, None, None, None)),
        TrackResult(1, 1, 0.8, tube(None, A, None, None)),
    ]
    assert gains(dataset, results) == {"identity": pytest.approx(1)}


def test_poor_mask() -> None:
    """IoU 0.65 in every frame: right at 0.5 .. 0.65, wrong at the six thresholds above."""
    dataset, results = perfect()
    results[0].segmentations = four(HALF)
    assert gains(dataset, results) == {"mask": pytest.approx(0.5 * 6 / 10)}


def test_wrong_class_and_poor_mask() -> None:
    """IoU 0.65 with the other class: a wrong class up to 0.65, above it both are wrong."""
    dataset = truth([(1, 1, four(A)), (2, 2, four(B))], categories=2)
    results = [TrackResult(1, 2, 0.8, tube(*[(2, 2, 22, 10)] * FRAMES)), TrackResult(2, 2, 0.9, four(B))]
    assert gains(dataset, results) == {"class_and_mask": pytest.approx(0.5)}  # IoU 8 / 20


def test_background() -> None:
    """A better scored prediction on nothing halves the precision of its class."""
    dataset, results = perfect()
    results.append(TrackResult(1, 1, 0.9, four(FAR)))
    assert gains(dataset, results) == {"background": pytest.approx(0.5 * 0.5)}


def test_missed() -> None:
    dataset, results = perfect()
    assert gains(dataset, results[:1]) == {"missed": pytest.approx(0.5)}


def test_crowd_tracks_are_never_missed() -> None:
    dataset, results = perfect()
    dataset.videos[0].tracks[1].iscrowd = True
    assert gains(dataset, results[:1]) == {}


@pytest.mark.parametrize("seed", range(6))
def test_gains_start_from_the_official_ap_and_end_below_one(seed: int) -> None:
    from ookd.evaluation.errors import ap_gains

    dataset, results = random_world(seed, crowd=True)
    report = ookd.evaluate(dataset, results)
    ap, counts = ap_gains(report.measured, len(report.per_class))
    for k, row in enumerate(report.per_class.values()):
        if row.ap >= 0:
            assert ap[0, :, k].mean() == pytest.approx(row.ap, abs=1e-12)
            assert ap[:, :, k].max() <= 1 + 1e-12
    assert counts.min() >= 0


@pytest.mark.parametrize("seed", range(4))
def test_gains_are_those_of_weighted_scoring_to_the_bit(seed: int) -> None:
    """Drawing every video once, as the comparison does for the set itself."""
    dataset, results = random_world(seed, videos=8)
    videos = ookd.evaluate(dataset, results).measured
    found, _ = errors.ap_gains(videos, 3)
    table, truths, once = (
        errors.error_table(videos),
        errors.truths_by_video(videos, 3),
        np.ones((1, 8), np.int64),
    )
    for row, cause in enumerate((None, *range(len(CAUSES)))):
        for t, scores in enumerate(found[row]):
            np.testing.assert_array_equal(scores, errors.class_ap(table.entries(t, cause), truths, once)[0])
