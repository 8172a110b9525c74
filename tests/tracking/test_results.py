"""From frames to the benchmark's results, by hand."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from ookd.config.tracker import TrackerConfig
from ookd.errors import UserError
from ookd.structures import Rle
from ookd.tracking.results import VideoResults


def rle(number: int) -> Rle:
    """Not a mask, but one can tell which one it is."""
    return {"size": [4, 5], "counts": f"mask {number}"}


def seen_in(frames: dict[int, list[int]], length: int, config: TrackerConfig | None = None) -> VideoResults:
    """Results where each id is seen in the given frames, always with the scores 0.8 and 0.2."""
    results = VideoResults(config or TrackerConfig())
    for frame in range(length):
        ids = np.array([id for id, at in frames.items() if frame in at], np.int64)
        probs = np.tile(np.array([0.8, 0.2], np.float32), (len(ids), 1))
        results.add(ids, probs, [rle(100 * int(id) + frame) for id in ids])
    return results


def frames_of(results: VideoResults) -> list[list[int]]:
    """The frames of each track, through its best class."""
    return [
        [frame for frame, mask in enumerate(track.segmentations) if mask is not None]
        for track in results.tracks(1, [1, None])
    ]


def test_every_class_above_the_score_is_a_result_with_the_same_masks() -> None:
    tracks = list(seen_in({5: [0, 2]}, 4).tracks(9, [11, 22]))
    assert [(track.video_id, track.category_id) for track in tracks] == [(9, 11), (9, 22)]
    np.testing.assert_allclose([track.score for track in tracks], [0.8, 0.2], rtol=1e-6)
    for track in tracks:
        assert track.segmentations == [rle(500), None, rle(502), None]


def test_a_class_that_the_data_lacks_is_left_out() -> None:
    assert [track.category_id for track in seen_in({0: [0]}, 1).tracks(1, [None, 7])] == [7]


def test_only_the_best_class_if_asked_for() -> None:
    config = TrackerConfig(every_class=False, final_score=0.9)
    assert [track.category_id for track in seen_in({0: [0]}, 1, config).tracks(1, [3, 4])] == [3]


@pytest.mark.parametrize(("pool", "score"), [("mean", 0.5), ("max", 0.9)])
def test_scores_are_pooled_over_the_frames_that_saw_the_track(pool: str, score: float) -> None:
    results = VideoResults(TrackerConfig(pool=pool))
    for one in (0.9, None, 0.1):
        seen = 0 if one is None else 1
        results.add(np.arange(seen), np.full((seen, 1), one or 0, np.float32), [rle(0)] * seen)
    assert next(results.tracks(1, [1])).score == pytest.approx(score)


def test_doubt_lowers_the_score_of_what_was_seen_briefly() -> None:
    results = seen_in({0: [0], 1: list(range(8))}, 8, TrackerConfig(doubt=2))
    scores = [track.score for track in results.tracks(1, [1, None])]
    np.testing.assert_allclose(scores, [0.8 * 1 / 3, 0.8 * 8 / 10], rtol=1e-6)


def test_a_short_track_is_noise_from_the_tenth_frame_on() -> None:
    twice, thrice = [0, 1], [0, 1, 2]
    assert frames_of(seen_in({0: twice, 1: thrice}, 9)) == [twice, thrice]
    assert frames_of(seen_in({0: twice, 1: thrice}, 10)) == [thrice]


def test_a_short_track_lives_while_it_misses_one_frame_only() -> None:
    assert frames_of(seen_in({0: [10]}, 12)) == [[10]]
    assert frames_of(seen_in({0: [10]}, 13)) == []
    assert frames_of(seen_in({0: [8, 10, 12]}, 20)) == [[8, 10, 12]]


def test_a_track_that_was_noise_starts_afresh() -> None:
    assert frames_of(seen_in({0: [5, 10, 11, 12]}, 13)) == [[10, 11, 12]]


def test_memory_follows_the_tracks_and_not_the_frames() -> None:
    results = VideoResults(TrackerConfig())
    ids, probs, masks = (
        np.arange(4),
        np.full((4, 2), 0.5, np.float32),
        [{"size": [9, 9], "counts": "x" * 150}] * 4,
    )
    for _ in range(2000):
        results.add(ids, probs, masks)
    tracemalloc.start()
    try:
        for _ in range(10_000):
            results.add(ids, probs, masks)
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()
    for track in results.tracks(1, [1, None]):
        assert len(track.segmentations) == 12_000
        assert all(mask == masks[0] for mask in track.segmentations)


def test_a_full_disk_is_one_line(monkeypatch) -> None:
    results = VideoResults(TrackerConfig())
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    long: Rle = {"size": [9, 9], "counts": "x" * (2 << 20)}  # too much for memory alone
    with pytest.raises(UserError, match="masks cannot be kept on disk: No such file or directory"):
        results.add(np.arange(1), np.ones((1, 1), np.float32), [long])
