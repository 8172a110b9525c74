"""Identity by the best assignment of all detections at once, or nobody."""

from __future__ import annotations

import numpy as np

from ookd.config.tracker import TrackerConfig
from ookd.tracking.select import DetectionFeatures
from ookd.tracking.video_tracker import VideoTracker
from tracking.test_associators import found


def placed(embeds: list[list[float]], xs: list[float]) -> DetectionFeatures:
    frame = found([0.9] * len(embeds), embeds, list(range(len(embeds))))
    frame.places[:] = np.array([[x, 0.5, 0.1] for x in xs]).reshape(-1, 3)
    return frame


NOTHING = DetectionFeatures(
    np.zeros((0, 1), np.float32), np.zeros((0, 2), np.float32), np.zeros((0, 3), np.float32), np.zeros(0, int)
)


def test_a_newcomer_is_not_the_only_one_who_is_missing() -> None:
    """Among one remembered object a softmax finds every newcomer perfectly alike."""
    left, other = [1.0, 0.0], [0.2, 0.98]
    for config, id in ((TrackerConfig(associator="assignment"), 1), (TrackerConfig(), 0)):
        tracker = VideoTracker(config)
        assert tracker.identify(found([0.9], [left], [0])).tolist() == [0]
        assert tracker.identify(found([0.9], [other], [0])).tolist() == [id]


def test_the_better_score_does_not_choose_first() -> None:
    known, rather, same = [1.0, 0.0], [0.8, 0.6], [0.99, 0.14]
    tracker = VideoTracker(TrackerConfig(associator="assignment"))
    tracker.identify(found([0.9], [known], [0]))
    assert tracker.identify(found([0.9, 0.4], [rather, same], [0, 1])).tolist() == [1, 0]


def test_the_sum_decides() -> None:
    """The first is a little more like object 0, but the second can be nobody else."""
    one, other = [1.0, 0.0], [0.8, 0.6]
    tracker = VideoTracker(TrackerConfig(associator="assignment"))
    tracker.identify(found([0.9, 0.8], [one, other], [0, 1]))
    first, second = [0.95, 0.31], [0.98, -0.2]
    assert tracker.identify(found([0.9, 0.8], [first, second], [0, 1])).tolist() == [1, 0]


def test_an_object_that_comes_back_is_known_within_the_horizon() -> None:
    one, other = [1.0, 0.0], [0.0, 1.0]
    for away, id in ((20, 0), (21, 2)):
        tracker = VideoTracker(TrackerConfig(associator="assignment", horizon=20))
        tracker.identify(found([0.9, 0.8], [one, other], [0, 1]))
        for _ in range(away - 1):
            assert tracker.identify(found([0.9], [other], [1])).tolist() == [1]
        assert tracker.identify(found([0.9], [one], [0])).tolist() == [id]


def test_look_alikes_that_cross_behind_something_are_told_apart_by_their_speed() -> None:
    same = [1.0, 0.0]
    for motion, ids in ((1.0, [0, 1]), (0.0, [1, 0])):
        config = TrackerConfig(associator="assignment", nearness=0.1, far=10, motion=motion)
        tracker = VideoTracker(config)
        for t in range(3):  # they go towards each other
            assert tracker.identify(placed([same, same], [0.1 + 0.1 * t, 0.9 - 0.1 * t])).tolist() == [0, 1]
        for _ in range(2):
            tracker.identify(NOTHING)
        assert tracker.identify(placed([same, same], [0.6, 0.4])).tolist() == ids


def test_what_an_object_looked_like_long_ago_still_counts() -> None:
    def at(angle: float) -> list[float]:
        return [np.cos(np.radians(angle)), np.sin(np.radians(angle))]

    for share, id in ((0.0, 1), (0.5, 0)):
        tracker = VideoTracker(TrackerConfig(associator="assignment", match=0.75, whole_track=share))
        for angle in [0] * 6 + [20, 40, 55, 55, 55]:
            assert tracker.identify(found([0.9], [at(angle)], [0])).tolist() == [0]
        assert tracker.identify(found([0.9], [at(0)], [0])).tolist() == [id]


def test_a_query_of_another_class_or_size_is_another_object() -> None:
    def seen(probs: list[float], side: float) -> DetectionFeatures:
        place = np.array([[0.5, 0.5, side]], np.float32)
        return DetectionFeatures(
            np.array([probs], np.float32), np.array([[1, 0]], np.float32), place, np.array([0])
        )

    for change, ids in (({}, [0, 0]), ({"other_class": 0.6}, [0, 1]), ({"growth": 0.3}, [1, 0])):
        for query, id in zip((seen([0.9, 0], 0.4), seen([0, 0.9], 0.1)), ids, strict=True):
            tracker = VideoTracker(TrackerConfig(associator="assignment", match=0.5, **change))
            assert tracker.identify(seen([0.9, 0], 0.1)).tolist() == [0]
            assert tracker.identify(query).tolist() == [id]
