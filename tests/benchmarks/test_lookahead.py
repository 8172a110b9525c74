"""Labels that differ only in who is who."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from learning.lookahead import shuffled, true_identities
from ookd.data import rle
from ookd.structures import Rle, Track, Video


def square(left: int) -> Rle:
    mask = np.zeros((8, 32), bool)
    mask[2:6, left : left + 4] = True
    return rle.encode(mask)


def test_true_identities_are_those_of_the_tracks_under_the_detections() -> None:
    tracks = [Track(7, 1, [square(0), square(8)], [], []), Track(9, 1, [square(16), None], [], [])]
    video = Video(1, 32, 8, ["0.jpg", "1.jpg"], tracks)
    found = [[square(16), square(0), square(24)], [square(9), square(16)]]
    online = [np.array([0, 1, -1]), np.array([0, 5])]
    first, second = true_identities(found, video, online)
    assert first.tolist() == [1, 0, -1]
    assert second.tolist() == [0, 7], "a detection on nothing keeps an id of its own"


def test_a_frame_without_detections_or_objects_has_no_identities() -> None:
    video = Video(1, 32, 8, ["0.jpg", "1.jpg"], [Track(7, 1, [None, square(0)], [], [])])
    first, second = true_identities([[square(0)], []], video, [np.array([3]), np.zeros(0, np.int64)])
    assert first.tolist() == [4]
    assert second.tolist() == []


def test_shuffling_stays_within_a_class_and_moves_nobody_that_is_no_object() -> None:
    ids, labels = np.array([4, 5, -1, 6, 7]), np.array([0, 0, 0, 1, 1])
    drawn = [shuffled(ids, labels, np.random.default_rng(seed)) for seed in range(20)]
    for answer in drawn:
        assert sorted(answer[:2]) == [4, 5]
        assert answer[2] == -1
        assert sorted(answer[3:]) == [6, 7]
    assert len({tuple(answer) for answer in drawn}) == 4
