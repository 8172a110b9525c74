"""Identities that are decided with the following frames in view."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ookd.config.tracker import TrackerConfig
from ookd.errors import UserError
from ookd.tracking.delayed import make_tracker
from ookd.tracking.linker import Linker
from ookd.tracking.predict import predict
from ookd.tracking.select import DetectionFeatures
from ookd.tracking.session import Session
from ookd.tracking.video_tracker import VideoTracker
from tracking.colour_model import NAMES, ColourModel, Scenes, scene
from tracking.test_associators import CONFIGS, configs, found, videos

fewer = settings(max_examples=40, deadline=None)  # each links a whole video again and again
AHEAD = st.sampled_from([1, 3, None])


def linked(frames: list[DetectionFeatures], config: TrackerConfig, ahead: int | None) -> list[list[int]]:
    linker = Linker(config, ahead)
    ids = [ids.tolist() for frame in frames for ids in linker.add(frame)]
    return ids + [rest.tolist() for rest in linker.finish()]


def at(angle: float) -> list[float]:
    return [np.cos(np.radians(angle)), np.sin(np.radians(angle))]


def one(*angles: float | None) -> list[DetectionFeatures]:
    """An object that looks like this in each frame; None: it is hidden."""
    frames = []
    for angle in angles:
        frame = found([0.9], [at(angle or 0)], [0])
        frames.append(frame if angle is not None else frame.at(np.zeros(0, np.int64)))
    return frames


@fewer
@given(videos(), configs, AHEAD)
def test_every_frame_is_answered_once_and_no_id_stands_twice(frames, config, ahead) -> None:
    answers = linked(frames, config, ahead)
    assert [len(ids) for ids in answers] == [len(frame) for frame in frames]
    known: set[int] = set()
    for ids in answers:
        named = [id for id in ids if id >= 0]
        assert len(set(named)) == len(named)
        assert all(id >= -1 for id in ids)
        new = sorted(set(named) - known)
        assert new == list(range(len(known), len(known) + len(new)))
        known.update(new)


@fewer
@given(videos(), configs)
def test_with_nothing_ahead_it_is_the_online_tracker(frames, config) -> None:
    tracker = VideoTracker(config)
    assert linked(frames, config, 0) == [tracker.identify(frame).tolist() for frame in frames]


@fewer
@given(videos(), configs, st.integers(1, 4), st.data())
def test_what_is_farther_ahead_does_not_count(frames, config, ahead, data) -> None:
    stop = data.draw(st.integers(0, len(frames)))
    linker = Linker(config, ahead)
    so_far = [ids.tolist() for frame in frames[:stop] for ids in linker.add(frame)]
    assert len(so_far) == max(stop - ahead, 0)
    assert so_far == linked(frames, config, ahead)[: len(so_far)]


@fewer
@given(videos(), configs)
def test_farther_ahead_than_the_video_is_long_is_all_of_it(frames, config) -> None:
    assert linked(frames, config, len(frames)) == linked(frames, config, None)


def test_an_object_that_returns_in_an_odd_view_is_known_by_what_follows() -> None:
    """Back at 60 degrees it is nobody the online tracker knows; then it turns to where it was."""
    config = TrackerConfig(associator="assignment", match=0.7, horizon=30)
    frames = one(0, 0, 0, None, None, None, None, 60, 45, 30, 15, 0)
    tracker = VideoTracker(config)
    online = [id for frame in frames for id in tracker.identify(frame).tolist()]
    assert online[:4] == [0, 0, 0, 1]
    linking = config.changed({"link.match": 0.65})
    early, late, whole = (
        [id for ids in linked(frames, linking, ahead) for id in ids] for ahead in (1, 4, None)
    )
    assert early[:4] == [0, 0, 0, 1]
    assert late == whole == [0] * 8


def test_two_that_are_seen_at_once_are_never_one() -> None:
    frames = [found([0.9, 0.8], [at(0), at(5)], [0, 1]) for _ in range(6)]
    assert linked(frames, TrackerConfig(associator="assignment"), None) == [[0, 1]] * 6


def test_a_frame_in_which_two_were_exchanged_is_put_right() -> None:
    """For one frame each looks rather like the other; where they are before and after tells."""
    config = TrackerConfig(associator="assignment", nearness=0, match=0.3)
    frames = []
    for t in range(9):
        looks = [at(0), at(40)] if t != 4 else [at(24), at(16)]
        frame = found([0.9, 0.8], looks, [0, 1])
        frame.places[:] = [[0.2, 0.5, 0.1], [0.8, 0.5, 0.1]]
        frames.append(frame)
    tracker = VideoTracker(config)
    assert [tracker.identify(frame).tolist() for frame in frames][4] == [1, 0]
    assert linked(frames, config, None) == [[0, 1]] * 9


def test_an_object_may_stay_away_longer_than_the_horizon() -> None:
    config = TrackerConfig(associator="assignment", horizon=3)
    frames = one(0, 0, *[None] * 8, 0, 0)
    assert [ids for ids in linked(frames, config, None) if ids] == [[0]] * 4


# --- a session that waits ----------------------------------------------------------------------------------


@pytest.mark.parametrize("carry", [False, True])
@pytest.mark.parametrize("ahead", [1, 5, None])
def test_a_session_that_waits_answers_every_frame_in_order(ahead: int | None, carry: bool) -> None:
    images = [scene(frame) for frame in range(24)]
    at_once = [Session(ColourModel(carry), TrackerConfig(), NAMES, "cpu").stream(images)]
    waiting = [Session(ColourModel(carry), TrackerConfig(), NAMES, "cpu", ahead=ahead).stream(images)]
    for now, later in zip(*at_once, *waiting, strict=True):
        assert now.index == later.index
        assert later.image is images[now.index]
        np.testing.assert_array_equal(now.ids, later.ids)  # nothing is unclear in these scenes
        np.testing.assert_array_equal(now.masks, later.masks)
        np.testing.assert_array_equal(now.boxes_xyxy, later.boxes_xyxy)
        np.testing.assert_allclose(now.scores, later.scores)


def test_the_answers_come_as_late_as_they_are_told() -> None:
    given: list[int] = []

    def images():
        for frame in range(10):
            given.append(frame)
            yield scene(frame)

    session = Session(ColourModel(), TrackerConfig(), NAMES, "cpu", ahead=3)
    came = [(result.index, len(given)) for result in session.stream(images(), one_by_one=True)]
    assert came == [(t, min(t + 4, 10)) for t in range(10)]


def test_what_waits_can_be_neither_stepped_nor_saved(tmp_path) -> None:
    session = Session(ColourModel(), TrackerConfig(), NAMES, "cpu", ahead=3)
    with pytest.raises(UserError, match="answers later than it is asked"):
        session.step(scene(0))
    with pytest.raises(UserError, match="neither saved nor restored"):
        session.save(tmp_path / "state")


def test_results_of_whole_videos() -> None:
    """Where the online tracker has forgotten an object that returns, the linker has not."""
    source, forgetful = Scenes(), TrackerConfig(horizon=3)
    online, offline = (predict(ColourModel(), source, forgetful, NAMES, ahead=ahead) for ahead in (0, None))
    remembering = predict(ColourModel(), source, TrackerConfig(), NAMES)
    assert len(offline) == len(remembering) < len(online)
    for one, other in zip(offline, remembering, strict=True):
        assert one.segmentations == other.segmentations


def test_memory_does_not_grow_while_it_waits() -> None:
    frames = one(*[0, 10, 20, None] * 50)
    linker = Linker(CONFIGS[-1].changed({"associator": "assignment"}), 4)
    for frame in frames:
        list(linker.add(frame))
    assert linker.decided is not None
    assert len(linker.decided) <= 2
    tracker = make_tracker(TrackerConfig(), ahead=0)
    assert type(tracker) is VideoTracker
