"""Identities: what holds for every associator and any frames at all, and what each does by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ookd.config.tracker import TrackerConfig
from ookd.errors import UserError
from ookd.masks import Ints
from ookd.models.families import family_named
from ookd.tracking.associators import ASSOCIATORS, make_associator
from ookd.tracking.associators.associator import Associator, Memory
from ookd.tracking.associators.looks import distance, overlap
from ookd.tracking.select import (
    DetectionFeatures,
    coarse_cells,
    mask_iou,
    mask_places,
    select_queries,
    suppress,
)
from ookd.tracking.video_tracker import VideoTracker

CLASSES, CHANNELS, QUERIES = 3, 4, 8
CONFIGS = [
    family_named("idol").tracker,
    *family_named("idol").tracker_variants.values(),
    family_named("compact").tracker,
    TrackerConfig(normalise="memory", prefer_lasting=False),
    TrackerConfig(memory="momentum", similarity="cosine", normalise="none", horizon=2),
    TrackerConfig(associator="assignment"),
    TrackerConfig(
        associator="assignment",
        match=0.7,
        nearness=0.1,
        far=3,
        motion=0.8,
        whole_track=0.5,
        memory="momentum",
    ),
    TrackerConfig(similarity="cosine", scale=10, overlap=4),
    TrackerConfig(associator="assignment", overlap=0.3),
    TrackerConfig(associator="consecutive"),
    TrackerConfig(associator="consecutive", match=0.9, new_score=0.5),
    TrackerConfig(associator="slot"),
    TrackerConfig(associator="slot", horizon=1, new_score=0.5),
]
configs = st.sampled_from(CONFIGS)
by_embedding = st.sampled_from([config for config in CONFIGS if config.associator != "slot"])


@st.composite
def videos(draw) -> list[DetectionFeatures]:
    """Objects that look like a few prototypes, come, go and double; scores from hopeless to sure."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kinds = rng.normal(0, 2, (draw(st.integers(1, 4)), CHANNELS))
    noise = draw(st.sampled_from([0.0, 0.1, 1.0]))
    frames = []
    for count in draw(st.lists(st.integers(0, 6), min_size=1, max_size=15)):
        probs = rng.random((count, CLASSES)).astype(np.float32)
        probs = probs[np.argsort(-probs.max(1, initial=0), kind="stable")]
        embeds = kinds[rng.integers(0, len(kinds), count)] + noise * rng.normal(0, 1, (count, CHANNELS))
        places = rng.random((count, 3)).astype(np.float32)
        query = rng.permutation(QUERIES)[:count]
        cells = rng.random((count, 12)) < 0.4
        frames.append(DetectionFeatures(probs, embeds.astype(np.float32), places, query, cells=cells))
    return frames


def run(frames: list[DetectionFeatures], config: TrackerConfig) -> list[tuple[list[int], Memory]]:
    associator, memory = make_associator(config), None
    history = []
    for frame in frames:
        ids, memory = associator.step(memory, frame)
        history.append((ids.tolist(), memory))
    return history


@given(videos(), configs)
def test_identity(frames: list[DetectionFeatures], config: TrackerConfig) -> None:
    """An id never stands twice in a frame, new ids only grow by one, a forgotten id never returns."""
    horizon = make_associator(config).horizon
    seen_at: dict[int, int] = {}
    for frame, (ids, memory) in enumerate(run(frames, config)):
        known = [id for id in ids if id >= 0]
        assert len(set(known)) == len(known)
        born = [id for id in known if id not in seen_at]
        assert sorted(born) == list(range(len(seen_at), len(seen_at) + len(born)))
        for id in known:
            assert frame - seen_at.get(id, frame) <= horizon
            seen_at[id] = frame
        assert memory.ids.tolist() == [id for id, last in sorted(seen_at.items()) if frame - last < horizon]
        assert memory.last.tolist() == [seen_at[id] for id in memory.ids.tolist()]


@given(videos(), configs)
def test_nothing_begins_below_its_score(frames: list[DetectionFeatures], config: TrackerConfig) -> None:
    seen: set[int] = set()
    remembered = 0
    for frame, (ids, memory) in zip(frames, run(frames, config), strict=True):
        needed = config.new_score if remembered else config.first_score
        for id, score in zip(ids, frame.scores, strict=True):
            assert id in seen or (id >= 0) == (score > needed)
        seen.update(id for id in ids if id >= 0)
        remembered = len(memory)


@given(videos(), configs, st.data())
def test_the_cut_into_calls_does_not_matter(
    frames: list[DetectionFeatures], config: TrackerConfig, data
) -> None:
    """Stopping anywhere, writing the memory out as arrays and going on from them changes nothing."""
    cut = data.draw(st.integers(0, len(frames)))
    straight = run(frames, config)
    first, second = VideoTracker(config), VideoTracker(config)
    for frame in frames[:cut]:
        first.identify(frame)
    second.state = {name: array.copy() for name, array in first.state.items()}
    for frame, (ids, _) in zip(frames[cut:], straight[cut:], strict=True):
        assert second.identify(frame).tolist() == ids
    for name, array in second.state.items():
        np.testing.assert_array_equal(array, straight[-1][1].arrays()[name])


@given(videos(), configs)
def test_the_past_is_never_changed(frames: list[DetectionFeatures], config: TrackerConfig) -> None:
    associator, memory = make_associator(config), None
    for frame in frames:
        before = {} if memory is None else memory.arrays()
        copies = {name: array.copy() for name, array in before.items()}
        _, following = associator.step(memory, frame)
        for name, array in before.items():
            np.testing.assert_array_equal(array, copies[name])
        memory = following


def renamed_ids(config: TrackerConfig, seed: int, with_boxes: bool, fixed: bool) -> None:
    """The same queries in another order - one for the video, or one a frame - give the same ids."""
    rng = np.random.default_rng(seed)
    trackers = VideoTracker(config), VideoTracker(config)
    prototypes = rng.normal(0, 2, (QUERIES, CHANNELS)).astype(np.float32)
    renamed = rng.permutation(QUERIES)
    for _ in range(6):
        probs = rng.random((QUERIES, CLASSES)).astype(np.float32) ** 2
        boxes = np.concatenate(
            [rng.uniform(0.3, 0.7, (QUERIES, 2)), rng.uniform(0.1, 0.5, (QUERIES, 2))], 1
        ).astype(np.float32)
        embeds = prototypes + rng.normal(0, 0.3, (QUERIES, CHANNELS)).astype(np.float32)
        masks = (rng.normal(0, 1, (QUERIES, 3, 3)) + np.linspace(-1, 1, QUERIES)[:, None, None]).astype(
            np.float32
        )
        if not fixed:
            renamed = rng.permutation(QUERIES)
        answers = []
        for tracker, order in zip(trackers, (np.arange(QUERIES), renamed), strict=True):
            query = select_queries(probs[order], boxes[order] if with_boxes else None, config)
            query = query[suppress(mask_iou(masks[order[query]] > 0), config.mask_nms)]
            own = order[query]
            places = mask_places(masks[own] > 0, 1.0)
            ids = tracker.identify(DetectionFeatures(probs[own], embeds[own], places, query))
            answers.append(dict(zip(own.tolist(), ids.tolist(), strict=True)))
        assert answers[0] == answers[1]


@settings(max_examples=60)
@given(by_embedding, st.integers(0, 2**32 - 1), st.booleans())
def test_names_of_query_slots_do_not_matter(config: TrackerConfig, seed: int, with_boxes: bool) -> None:
    renamed_ids(config, seed, with_boxes, fixed=False)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_names_that_stay_do_not_matter_where_the_slot_is_the_identity(seed: int, with_boxes: bool) -> None:
    renamed_ids(TrackerConfig(associator="slot"), seed, with_boxes, fixed=True)


def found(scores: list[float], embeds: list[list[float]], query: list[int]) -> DetectionFeatures:
    """Detections of one class without a place."""
    places = np.zeros((len(scores), 3), np.float32)
    return DetectionFeatures(
        np.array(scores, np.float32)[:, None], np.array(embeds, np.float32), places, np.array(query)
    )


# --- memory ------------------------------------------------------------------------------------------------


def test_distance_by_hand() -> None:
    here = np.array([[1.0, 1.0, 0.4], [0, 0, 0]], np.float32)
    there = np.array([[1.0, 1.3, 0.1], [9, 9, 0.1]], np.float32)
    # 0.3 apart in units of sqrt(0.4 x 0.1) = 0.2; what is far, or has no size, is two sizes away
    np.testing.assert_allclose(distance(here[:, None], there, 2), [[1.5, 2], [2, 2]], rtol=1e-5)


def test_look_alikes_are_told_apart_by_where_they_are() -> None:
    """Two objects with one embedding walk side by side and take turns at having the better score."""
    config = TrackerConfig(similarity="cosine", scale=20, nearness=2)
    embeds, probs = np.ones((2, CHANNELS), np.float32), np.full((2, CLASSES), 0.9, np.float32)
    tracker = VideoTracker(config)
    for frame in range(6):
        places = np.array([[0.1 * frame, 0.2, 0.2], [0.1 * frame, 0.6, 0.2]], np.float32)
        order = [0, 1] if frame % 2 == 0 else [1, 0]
        ids = tracker.identify(DetectionFeatures(probs, embeds, places[order], np.array(order)))
        assert ids.tolist() == order


@pytest.mark.parametrize(
    "config",
    [
        TrackerConfig(similarity="cosine", scale=20, overlap=5),
        TrackerConfig(associator="assignment", overlap=0.4),
    ],
)
def test_look_alikes_are_told_apart_by_their_masks(config: TrackerConfig) -> None:
    """A ring and what it surrounds: one embedding, one centre, and they take turns at being first."""
    embeds, probs = np.ones((2, CHANNELS), np.float32), np.full((2, CLASSES), 0.9, np.float32)
    masks = np.zeros((2, 8, 8), bool)
    masks[0], masks[1, 2:6, 2:6] = True, True
    masks[0] ^= masks[1]
    places = np.full((2, 3), 0.5, np.float32)
    tracker = VideoTracker(config)
    for frame in range(6):
        order = [0, 1] if frame % 2 == 0 else [1, 0]
        frames = DetectionFeatures(probs, embeds, places, np.array(order), cells=coarse_cells(masks[order]))
        assert tracker.identify(frames).tolist() == order


def test_overlap_by_hand() -> None:
    config = TrackerConfig(overlap=1)
    masks = np.zeros((2, 4, 8), bool)
    masks[0, :, :4], masks[1, :, 4:] = True, True
    first = found([0.9, 0.8], [[1.0] * CHANNELS, [2.0] * CHANNELS], [0, 1])
    tracker = VideoTracker(config)
    tracker.identify(replace(first, cells=coarse_cells(masks)))
    half = np.zeros((1, 4, 8), bool)
    half[0, :, 2:6] = True
    second = replace(found([0.9], [[1.0] * CHANNELS], [0]), cells=coarse_cells(half))
    np.testing.assert_allclose(overlap(second, tracker.memory), [[1 / 3, 1 / 3]])
    larger = replace(second, cells=coarse_cells(np.ones((1, 8, 8), bool)))
    assert overlap(larger, tracker.memory).tolist() == [[0, 0]]  # frames of another size
    tracker.identify(larger)
    assert tracker.memory.cells.shape[1] == 16


def test_states_without_masks_are_still_read() -> None:
    config = TrackerConfig(overlap=1)
    tracker, again = VideoTracker(config), VideoTracker(config)
    tracker.identify(found([0.9], [[1.0] * CHANNELS], [0]))
    again.state = {name: array for name, array in tracker.state.items() if name != "cells"}
    masks = coarse_cells(np.ones((1, 4, 4), bool))
    assert again.identify(replace(found([0.9], [[1.0] * CHANNELS], [0]), cells=masks)).tolist() == [0]


@pytest.mark.parametrize("associator", ASSOCIATORS)
def test_an_unsure_detection_continues_a_track_but_begins_none(associator: str) -> None:
    tracker = VideoTracker(TrackerConfig(associator=associator))
    sure, unsure = (found([score], [[2.0] * CHANNELS], [5]) for score in (0.9, 0.15))
    assert [tracker.identify(frame).tolist() for frame in (unsure, sure, unsure)] == [[-1], [0], [0]]


# --- consecutive -------------------------------------------------------------------------------------------


def test_the_best_pairing_wins_over_the_best_single_pair() -> None:
    """The first detection looks most like object 0, but then the second would have no object at all."""
    tracker = VideoTracker(TrackerConfig(associator="consecutive"))

    def at(*degrees: float) -> list[list[float]]:
        return [[np.cos(np.radians(angle)), np.sin(np.radians(angle))] for angle in degrees]

    assert tracker.identify(found([0.9, 0.8], at(0, 50), [0, 1])).tolist() == [0, 1]
    assert tracker.identify(found([0.9, 0.8], at(20, -40), [0, 1])).tolist() == [1, 0]
    # cosines: 20 degrees against (0, 50): 0.94, 0.87; -40 degrees: 0.77, 0.0


def test_only_the_last_frame_counts() -> None:
    tracker = VideoTracker(TrackerConfig(associator="consecutive", horizon=10))
    one, other = [1.0, 0.0], [0.0, 1.0]
    assert tracker.identify(found([0.9, 0.8], [one, other], [0, 1])).tolist() == [0, 1]
    assert tracker.identify(found([0.9], [other], [4])).tolist() == [1]
    assert tracker.identify(found([0.9, 0.8], [other, one], [0, 1])).tolist() == [1, 2]


# --- slot --------------------------------------------------------------------------------------------------


def test_the_query_is_the_identity_whatever_it_looks_like() -> None:
    tracker = VideoTracker(TrackerConfig(associator="slot", horizon=2))
    one, other = [1.0, 0.0], [0.0, 1.0]
    assert tracker.identify(found([0.9, 0.8], [one, other], [6, 2])).tolist() == [0, 1]
    assert tracker.identify(found([0.9, 0.8], [one, other], [2, 6])).tolist() == [1, 0]
    assert tracker.identify(found([0.9], [one], [6])).tolist() == [0]
    assert tracker.identify(found([0.9, 0.8], [one, one], [6, 2])).tolist() == [0, 1]  # away for one frame
    for _ in range(2):
        assert tracker.identify(found([0.9], [one], [6])).tolist() == [0]
    assert tracker.identify(found([0.9, 0.8], [one, one], [6, 2])).tolist() == [0, 2]  # for two: another one


def test_where_the_model_says_who_is_who_the_query_does_not_matter() -> None:
    tracker = VideoTracker(TrackerConfig(associator="slot", horizon=9))
    looks = [[1.0, 0.0], [0.0, 1.0]]

    def identify(query: list[int], identity: list[int]) -> list[int]:
        detections = found([0.9, 0.8], looks, query)
        return tracker.identify(replace(detections, identity=np.array(identity))).tolist()

    assert identify([6, 2], [40, 41]) == [0, 1]
    assert identify([6, 2], [41, 40]) == [1, 0]
    assert identify([3, 6], [40, 42]) == [0, 2]  # in query 6 an object gave way to another one


# --- one more ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sides(Memory):
    left: Ints  # [M] whether the object is in the left half


class BySide(Associator[Sides]):
    """At most one object on each side."""

    memory = Sides

    def begin(self, classes: int, channels: int) -> Sides:
        return Sides.empty(classes, left=np.zeros(0, np.int64))

    def match(self, memory: Sides, detections: DetectionFeatures) -> Ints:
        ids = np.full(len(detections), -1, np.int64)
        for id, left in zip(memory.ids, memory.left, strict=True):
            ids[np.flatnonzero((detections.places[:, 0] < 0.5) == left)[:1]] = id
        return ids

    def note(self, arrays: dict[str, Any], rows: Ints, found: DetectionFeatures, frame: int) -> None:
        arrays["left"][rows] = found.places[:, 0] < 0.5


def test_a_new_associator_is_a_class_and_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ASSOCIATORS, "side", f"{__name__}:BySide")
    tracker = VideoTracker(TrackerConfig(associator="side"))
    for xs, ids in (([0.8, 0.1], [0, 1]), ([0.2, 0.9], [1, 0]), ([0.3], [1])):
        frame = found([0.9] * len(xs), [[0.0]] * len(xs), list(range(len(xs))))
        frame.places[:, 0] = xs
        assert tracker.identify(frame).tolist() == ids


def test_an_unknown_associator_is_named() -> None:
    with pytest.raises(UserError, match="associator = 'magic': choose from assignment, memory"):
        VideoTracker(TrackerConfig(associator="magic"))
