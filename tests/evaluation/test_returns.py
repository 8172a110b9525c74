"""Returns kept, switches at returns and time to recover: by hand, and what must hold for any tracker."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ookd
from evaluation.scenes import Box, copied, random_world, truth, tube
from ookd.evaluation.compare import compare
from ookd.evaluation.returns import ReturnCounts, count_returns, return_scores
from ookd.structures import Dataset, TrackResult

A, B, FAR = (2, 2, 20, 20), (30, 5, 50, 30), (40, 34, 46, 38)


def results(text: str, box: Box, ids: str) -> list[TrackResult]:
    """A prediction for each id. In each frame the one that is written there has the box."""
    return [TrackResult(1, 1, 0.9, tube(*[box if written == id else None for written in text])) for id in ids]


def by_hand() -> tuple[Dataset, list[TrackResult]]:
    """Two objects in 22 frames. A line says which prediction is on the object; `.` is a frame without one.

    The first object is there in all frames:

        frame  0         10        20
               ppp....p...qq.....rrp.
                      |   |      | `-- frame 20, switch: p is back, which was lost in frame 11: 9 frames
                      |   |      `---- frame 18, return after 5 frames, not kept: switch, q is lost for good
                      |   `----------- frame 11, switch after 3 frames, so no return: p is lost
                      `--------------- frame 7, return after 4 frames, kept

    The second is behind something in frames 6 to 12 and has the same prediction before and after: a return,
    kept. In frames 16 to 18 it is there but missed, which is too short for a return.
    """
    first, second = "ppp....p...qq.....rrp.", "ssssss.......sss...sss"
    there = tube(*[None if 6 <= t <= 12 else B for t in range(22)])
    dataset = truth([(1, 1, tube(*[A] * 22)), (1, 1, there)], frames=22, videos=1)
    return dataset, [*results(first, A, "pqr"), *results(second, B, "s")]


def test_two_objects_by_hand() -> None:
    report = ookd.evaluate(*by_hand())
    returns = report.returns
    assert (returns.returns, returns.kept) == (3, 2)
    assert returns.share_kept == pytest.approx(2 / 3)
    assert report.tracking.switches == 3
    assert returns.switches_at_returns == 1
    assert (returns.lost, returns.recovered) == (2, 1)  # p and q; p came back
    assert returns.share_never_recovered == 0.5
    assert returns.frames_to_recover == 9
    assert report.per_class["class1"].returns == returns
    assert report.per_class["class2"].returns.share_kept is None


def test_what_is_no_sighting_makes_a_gap() -> None:
    """A prediction that is elsewhere, of another class or below the least score is not on the object."""
    dataset = truth([(1, 1, tube(*[A] * 6))], frames=6, videos=1)
    before, back = TrackResult(1, 1, 0.9, tube(A, *[None] * 5)), TrackResult(1, 1, 0.9, tube(*[None] * 5, A))
    between = TrackResult(1, 1, 0.9, tube(None, *[A] * 4, None))
    elsewhere = replace(between, segmentations=tube(None, *[FAR] * 4, None))
    for nothing in (elsewhere, replace(between, category_id=2), replace(between, score=0.2)):
        found = ookd.evaluate(dataset, [before, nothing, back]).returns
        assert (found.returns, found.kept, found.switches_at_returns, found.lost) == (1, 0, 1, 1)
    found = ookd.evaluate(dataset, [before, between, back]).returns
    assert (found.returns, found.switches_at_returns, found.lost) == (0, 0, 2)


def test_a_flicker_is_one_lost_id_that_is_recovered() -> None:
    """Ids p p q p p: two switches, but the second only mends the first. Then p q p q p: it is lost twice."""
    assert counted("ppqpp") == ReturnCounts(switches=2, waits=(1,))
    assert counted("pqpqp") == ReturnCounts(switches=4, waits=(1, 1))
    assert counted("pqrp") == ReturnCounts(switches=3, waits=(2,), never=1)  # q stays lost
    assert return_scores(counted("pqp") + counted("pqqqp")).frames_to_recover == 2  # the median of 1 and 3


def counted(text: str) -> ReturnCounts:
    """Of one object, with the id that it carries in each frame."""
    frame = np.array([t for t, id in enumerate(text) if id != "."], np.int64)
    return count_returns(frame, np.zeros_like(frame), np.array([ord(text[t]) for t in frame], np.int64))


Lines = st.lists(st.text("pqr.", max_size=30), min_size=1, max_size=4)


def sightings(lines: list[str]) -> np.ndarray:
    """[3, N] frame, object and id; the objects of different lines have no id in common."""
    seen = [
        (t, g, 10 * g + ord(id)) for g, line in enumerate(lines) for t, id in enumerate(line) if id != "."
    ]
    return np.array(seen, np.int64).reshape(-1, 3).T


@given(lines=Lines, seed=st.integers(0, 99))
def test_names_and_order_do_not_matter(lines: list[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    frame, true_id, found_id = sightings(lines)
    expected = count_returns(frame, true_id, found_id)
    order = rng.permutation(len(frame))
    again = count_returns(
        frame[order], rng.permutation(9)[true_id[order]], rng.permutation(999)[found_id[order]]
    )
    assert replace(again, waits=()) == replace(expected, waits=())
    assert sorted(again.waits) == sorted(expected.waits)
    assert sum((counted(line) for line in lines), ReturnCounts()) == expected


@given(lines=Lines)
def test_the_counts_fit_together(lines: list[str]) -> None:
    counts = count_returns(*sightings(lines))
    assert 0 <= counts.kept <= counts.returns
    assert counts.returns - counts.kept <= counts.switches
    assert counts.switches == 2 * len(counts.waits) + counts.never  # each recovery is a switch too
    frame, true_id, found_id = sightings([line[::-1] for line in lines])
    backwards = count_returns(frame, true_id, found_id)
    assert (backwards.switches, backwards.returns, backwards.kept) == (
        counts.switches,
        counts.returns,
        counts.kept,
    )


def coming_and_going(seed: int) -> tuple[Dataset, list[TrackResult]]:
    """Objects that are away now and then, for one frame or for many, and the perfect answer."""
    rng = np.random.default_rng(seed)
    tracks = []
    for _ in range(5):
        left, top = int(rng.integers(0, 40)), int(rng.integers(0, 25))
        runs = rng.integers(1, 9, 12)
        there = np.repeat(np.arange(12) % 2 == 0, runs)[:40]
        there = np.pad(there, (0, 40 - len(there)))
        moved = [
            (left + t // 4, top, left + t // 4 + 10, top + 9) if on else None for t, on in enumerate(there)
        ]
        tracks.append((1, int(rng.integers(1, 3)), tube(*moved)))
    dataset = truth(tracks, frames=40, videos=1)
    return dataset, [TrackResult(v, c, 0.9, masks) for v, c, masks in tracks]


@pytest.mark.parametrize("seed", range(8))
def test_perfect_tracking_keeps_every_return(seed: int) -> None:
    dataset, perfect = coming_and_going(seed)
    report = ookd.evaluate(dataset, perfect[::-1])
    assert report.returns.returns > 0
    assert report.returns.share_kept == 1
    assert (report.tracking.switches, report.returns.switches_at_returns, report.returns.lost) == (0, 0, 0)
    assert report.returns.share_never_recovered is report.returns.frames_to_recover is None


@pytest.mark.parametrize("seed", range(8))
def test_a_new_id_in_every_frame_keeps_none(seed: int) -> None:
    dataset, perfect = coming_and_going(seed)
    fresh = [
        replace(result, segmentations=[m if t == at else None for t, m in enumerate(result.segmentations)])
        for result in perfect
        for at, there in enumerate(result.segmentations)
        if there
    ]
    report, best = ookd.evaluate(dataset, fresh), ookd.evaluate(dataset, perfect).returns
    assert report.returns.returns == best.returns
    assert report.returns.share_kept == 0
    assert report.returns.switches_at_returns == best.returns
    assert report.returns.lost == report.tracking.switches == len(fresh) - len(perfect)
    assert report.returns.share_never_recovered == 1
    assert report.returns.frames_to_recover is None


def test_without_returns_there_is_no_share() -> None:
    dataset, tracked = random_world(3, frames=4)  # too short for a gap of four frames
    report = ookd.evaluate(dataset, tracked)
    document = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert document["returns"]["returns"] == 0
    assert document["returns"]["share_kept"] is None
    assert compare(report, report, resamplings=20).returns["share_kept"] is None


def taking_turns(seed: int, dataset: Dataset) -> list[TrackResult]:
    """Two predictions take turns on each object, with gaps."""
    rng = np.random.default_rng(seed)
    found = []
    for video in dataset.videos:
        for track in video.tracks:
            turn = np.repeat(rng.integers(0, 3, 30), rng.integers(1, 7, 30))[:30]  # 2 is a gap
            for mine in (0, 1):
                masks = [m if turn[t] == mine else None for t, m in enumerate(track.segmentations)]
                found.append(TrackResult(video.id, track.category_id, 0.9, masks))
    return found


def test_a_comparison_gives_each_score_with_its_interval() -> None:
    """Drawing a video twice is scoring a set in which it stands twice."""
    dataset, _ = random_world(5, videos=6, frames=30)
    ours, theirs = taking_turns(1, dataset), taking_turns(2, dataset)
    a, b = ookd.evaluate(dataset, ours), ookd.evaluate(dataset, theirs)
    found = compare(a, b, resamplings=60, seed=4).returns
    drawn = np.random.default_rng(4).multinomial(6, np.full(6, 1 / 6), 60)
    copies = [
        [ookd.evaluate(*copied(dataset, results, times)).returns for results in (ours, theirs)]
        for times in drawn
    ]
    for name in ("share_kept", "switches_at_returns", "share_never_recovered", "frames_to_recover"):
        difference = found[name]
        assert difference is not None
        assert (difference.a, difference.b) == (getattr(a.returns, name), getattr(b.returns, name))
        low, high = np.percentile([getattr(x, name) - getattr(y, name) for x, y in copies], [2.5, 97.5])
        assert (difference.low, difference.high) == pytest.approx((low, high)), name
        assert low < high
    switches = found["switches"]
    assert switches is not None
    assert (switches.a, switches.b) == (a.tracking.switches, b.tracking.switches)
