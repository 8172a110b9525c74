"""Two runs over a video, joined. Objects are blocks of 4 x 4 in frames of 8 x 24."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from ookd.data import rle
from ookd.label.both_ways import BothWays, joined
from ookd.structures import Rle, TrackResult
from ookd.tracking.recordings import Recording

Spots = list[int | None]  # the left edge of the block in each frame


def mask(left: int) -> Rle:
    frame = np.zeros((8, 24), bool)
    frame[2:6, left : left + 4] = True
    return rle.encode(frame)


def track(*spots: int | None, score: float = 0.8, category: int = 1) -> TrackResult:
    masks = [None if x is None else mask(x) for x in spots]
    return TrackResult(7, category, score, masks, [None if x is None else score for x in spots])


def spots(result: TrackResult) -> Spots:
    return [None if m is None else int(rle.box_xywh(m)[0]) for m in result.segmentations]


def test_what_both_runs_see_is_as_sure_as_both() -> None:
    (one,) = joined([track(0, 1, 2, 3, score=0.9)], [track(0, 1, 2, 3, score=0.7)])
    assert spots(one) == [0, 1, 2, 3]
    assert one.frame_scores == pytest.approx([0.8] * 4)
    assert (one.video_id, one.category_id, one.score) == (7, 1, pytest.approx(0.8))


def test_what_one_run_sees_is_worth_half() -> None:
    (one,) = joined([track(0, 0, 0, 0, None)], [track(None, 0, 0, 0, 0)])
    assert spots(one) == [0] * 5
    assert one.frame_scores == pytest.approx([0.4, 0.8, 0.8, 0.8, 0.4])
    (alone,) = joined([track(0, 0, 0)], [])
    assert alone.score == pytest.approx(0.4)


def test_a_run_that_lost_the_object_is_helped_by_the_one_that_did_not() -> None:
    lost = [track(0, 0, 0, None, None, None), track(None, None, None, None, 0, 0)]
    (one,) = joined(lost, [track(0, 0, 0, 0, 0, 0)])
    assert spots(one) == [0] * 6


def test_what_it_holds_does_not_grow_with_the_square_of_the_tracks() -> None:
    """Of 120 tracks in each run, over 240 frames, an array of all pairs in all frames would take 27 MB."""
    one_after_another = [
        track(*(4 if 2 * n <= t < 2 * n + 2 else None for t in range(240))) for n in range(120)
    ]
    tracemalloc.start()
    found = joined(one_after_another, one_after_another)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 120
    assert peak < 8e6


def test_the_class_is_a_vote_of_all_frames() -> None:
    short, long = track(0, 0, None, None, category=1), track(0, 0, 0, 0, category=2)
    assert joined([short], [long])[0].category_id == 2


def test_two_objects_that_one_run_mixed_up_are_cut_apart() -> None:
    """The forward run goes over from the left object to the right one; the other sees both all along."""
    mixed = track(0, 0, 0, 0, 12, 12, 12, 12)
    left, right = track(*[0] * 8), track(*[12] * 8)
    found = joined([mixed], [left, right])
    assert sorted(spots(one)[0] or 0 for one in found) == [0, 12]
    assert all(len(set(spots(one))) == 1 for one in found)


def test_nothing_found_is_no_track() -> None:
    assert joined([], []) == []


class Once:
    """Says in each run what it was given, and reads all frames."""

    names, teacher, settings = ("cat",), {"id": "once"}, {"a": 1}

    def __init__(self, *runs: list[TrackResult]) -> None:
        self.runs, self.seen = list(runs), list[list[int]]()

    def tracks(self, recording: Recording, on_frame: Callable[[], None]) -> Iterator[TrackResult]:
        self.seen.append([int(image[0, 0, 0]) for image in recording.images()])
        yield from self.runs.pop(0)


def test_the_second_run_sees_the_video_from_its_end() -> None:
    def read(frames: Any) -> Iterator[Any]:
        return (np.full((8, 24, 3), frame, np.uint8) for frame in frames)

    inner = Once([track(0, 1, 2)], [track(2, 1, 0)])
    (one,) = BothWays(inner).tracks(Recording(7, 3, read))
    assert inner.seen == [[0, 1, 2], [2, 1, 0]]
    assert spots(one) == [0, 1, 2]
    assert one.score == pytest.approx(0.8)


def test_when_the_runs_disagree_nothing_is_lost_or_told_twice() -> None:
    """The forward run swaps two objects halfway; the backward run does not."""
    swapped = [track(0, 0, 0, 0, 12, 12, 12, 12), track(12, 12, 12, 12, 0, 0, 0, 0)]
    steady = [track(*[0] * 8, score=0.6), track(*[12] * 8, score=0.6)]
    found = joined(swapped, steady)
    assert len(found) == 2
    for frame in range(8):
        assert sorted(spots(one)[frame] or 0 for one in found) == [0, 12]
    for one in found:  # what is disputed is unsure, and lies where the object was before
        assert len(set(spots(one))) == 1
        assert one.frame_scores == pytest.approx([0.7] * 4 + [0.35] * 4)


def test_a_duplicate_of_one_run_is_no_second_object_of_the_other() -> None:
    """Two frames in which the forward run sees an object twice do not keep the runs apart."""
    once, twice = track(0, 0, 0, 0, 0, 0), track(None, None, 3, 3, None, None, score=0.3)
    found = joined([once, twice], [track(0, 0, 0, 0, 0, 0)])
    assert spots(found[0]) == [0] * 6
    assert found[0].score == pytest.approx(0.8)
