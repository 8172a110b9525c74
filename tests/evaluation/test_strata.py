"""AP of some tracks only: by size, length, occlusion and class frequency."""

from __future__ import annotations

import pytest

import ookd
from evaluation.scenes import truth, tube
from ookd.evaluation.strata import frequency_groups, occlusion_of
from ookd.structures import TrackResult

A, B = (2, 2, 22, 22), (30, 4, 50, 30)


def test_tracks_outside_a_stratum_are_ignored_with_their_matches() -> None:
    """A short track is found, a long one is not: AP 1 among short tracks, 0 among those of medium length."""
    dataset = truth([(1, 1, tube(*[A] * 10, *[None] * 20)), (1, 1, tube(*[B] * 30))], frames=30, videos=1)
    results = [TrackResult(1, 1, 0.9, tube(*[A] * 10, *[None] * 20))]
    report = ookd.evaluate(dataset, results)
    assert report.strata["length"]["short"] == pytest.approx(1)
    assert report.strata["length"]["medium"] == 0
    assert report.strata["length"]["long"] == -1


def test_occlusion_levels_of_the_annotation() -> None:
    dataset = truth([(1, 1, tube(A, A)), (2, 1, tube(B, B))], frames=2)
    dataset.videos[0].tracks[0].extra["occlusion"] = ["no_occlusion", "slight_occlusion"]
    dataset.videos[1].tracks[0].extra["occlusion"] = ["severe_occlusion", "severe_occlusion"]
    report = ookd.evaluate(dataset, [TrackResult(2, 1, 0.9, tube(B, B))])
    assert report.strata["occlusion"] == {"slight": 0, "moderate": -1, "heavy": pytest.approx(1)}


def test_unknown_occlusion_leaves_the_kind_out() -> None:
    report = ookd.evaluate(truth([(1, 1, tube(A, A))], frames=2), [])
    assert "occlusion" not in report.strata


def test_occlusion_is_the_mean_of_what_is_said() -> None:
    assert occlusion_of({"occlusion": ["no_occlusion", None, "severe_occlusion"]}) == pytest.approx(0.375)
    assert occlusion_of({"occlusion": [0.2, 0.4]}) == pytest.approx(0.3)
    assert occlusion_of({"occlusion": "severe_occlusion"}) == 0.75
    assert occlusion_of({}) != occlusion_of({})  # nan


def test_classes_are_cut_into_thirds_by_frequency() -> None:
    assert frequency_groups([50, 3, 20, 1, 9, 100]) == [
        "major",
        "minor",
        "middle",
        "minor",
        "middle",
        "major",
    ]


def test_frequency_of_training_beats_that_of_the_truth() -> None:
    dataset = truth([(1, 1, tube(A, A)), (1, 2, tube(B, B)), (2, 3, tube(B, B))], frames=2)
    results = [TrackResult(1, 2, 0.9, tube(B, B))]
    report = ookd.evaluate(dataset, results, class_counts=[100, 1, 10])
    assert report.strata["frequency"] == {"minor": pytest.approx(1), "middle": 0, "major": 0}
    assert report.per_class["class2"].frequency == "minor"
