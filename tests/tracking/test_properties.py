"""What holds for any frames at all."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ookd.config.tracker import TrackerConfig
from ookd.models.compact.family import COMPACT
from ookd.models.idol.family import IDOL
from ookd.tracking.memory import Memory
from ookd.tracking.select import DetectionFeatures, mask_iou, mask_places, select_queries, suppress
from ookd.tracking.tracker import advance, distance

CLASSES, CHANNELS = 3, 4
CONFIGS = [
    IDOL.tracker,
    IDOL.tracker_variants["ovis"],
    COMPACT.tracker,
    TrackerConfig(normalise="memory", prefer_lasting=False),
    TrackerConfig(memory="momentum", similarity="cosine", normalise="none", horizon=2),
]
configs = st.sampled_from(CONFIGS)


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
        frames.append(
            DetectionFeatures(probs, embeds.astype(np.float32), rng.random((count, 3)).astype(np.float32))
        )
    return frames


def run(frames: list[DetectionFeatures], config: TrackerConfig) -> list[tuple[list[int], Memory]]:
    memory = Memory.empty(CLASSES, CHANNELS, config)
    history = []
    for frame in frames:
        ids, memory = advance(memory, frame, config)
        history.append((ids.tolist(), memory))
    return history


@given(videos(), configs)
def test_identity(frames: list[DetectionFeatures], config: TrackerConfig) -> None:
    """An id never stands twice in a frame, new ids only grow by one, a forgotten id never returns."""
    seen_at: dict[int, int] = {}
    for frame, (ids, memory) in enumerate(run(frames, config)):
        known = [id for id in ids if id >= 0]
        assert len(set(known)) == len(known)
        born = [id for id in known if id not in seen_at]
        assert sorted(born) == list(range(len(seen_at), len(seen_at) + len(born)))
        for id in known:
            assert frame - seen_at.get(id, frame) <= config.horizon
            seen_at[id] = frame
        assert memory.ids.tolist() == [
            id for id, last in sorted(seen_at.items()) if frame - last < config.horizon
        ]
        assert memory.last.tolist() == [seen_at[id] for id in memory.ids.tolist()]


@given(videos(), configs, st.data())
def test_the_cut_into_calls_does_not_matter(
    frames: list[DetectionFeatures], config: TrackerConfig, data
) -> None:
    """Stopping anywhere, writing the memory out as arrays and going on from them changes nothing."""
    cut = data.draw(st.integers(0, len(frames)))
    straight = run(frames, config)
    before = run(frames[:cut], config)
    memory = before[-1][1] if before else Memory.empty(CLASSES, CHANNELS, config)
    memory = Memory.of_arrays({name: array.copy() for name, array in memory.arrays().items()})
    for frame, (ids, _) in zip(frames[cut:], straight[cut:], strict=True):
        again, memory = advance(memory, frame, config)
        assert again.tolist() == ids
    for name, array in memory.arrays().items():
        wanted = straight[-1][1].arrays()[name]
        np.testing.assert_array_equal(array, wanted)


@given(videos(), configs)
def test_the_past_is_never_changed(frames: list[DetectionFeatures], config: TrackerConfig) -> None:
    memory = Memory.empty(CLASSES, CHANNELS, config)
    for frame in frames:
        copies = {name: array.copy() for name, array in memory.arrays().items()}
        _, following = advance(memory, frame, config)
        for name, array in memory.arrays().items():
            np.testing.assert_array_equal(array, copies[name])
        memory = following


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.booleans(), configs)
def test_names_of_query_slots_do_not_matter(seed: int, with_boxes: bool, config: TrackerConfig) -> None:
    """The same queries in another order give the same objects the same ids, frame after frame."""
    rng = np.random.default_rng(seed)
    queries, frames = 8, 6
    memories = [Memory.empty(CLASSES, CHANNELS, config)] * 2
    prototypes = rng.normal(0, 2, (queries, CHANNELS)).astype(np.float32)
    for _ in range(frames):
        probs = rng.random((queries, CLASSES)).astype(np.float32) ** 2
        boxes = np.concatenate(
            [rng.uniform(0.3, 0.7, (queries, 2)), rng.uniform(0.1, 0.5, (queries, 2))], 1
        ).astype(np.float32)
        embeds = prototypes + rng.normal(0, 0.3, (queries, CHANNELS)).astype(np.float32)
        masks = (rng.normal(0, 1, (queries, 3, 3)) + np.linspace(-1, 1, queries)[:, None, None]).astype(
            np.float32
        )
        renamed = rng.permutation(queries)
        answers = []
        for which, order in enumerate((np.arange(queries), renamed)):
            chosen = select_queries(probs[order], boxes[order] if with_boxes else None, config)
            chosen = order[chosen]
            chosen = chosen[suppress(mask_iou(masks[chosen] > 0), config.mask_nms)]
            seen = DetectionFeatures(probs[chosen], embeds[chosen], mask_places(masks[chosen] > 0, 1.0))
            ids, memories[which] = advance(memories[which], seen, config)
            answers.append(dict(zip(chosen.tolist(), ids.tolist(), strict=True)))
        assert answers[0] == answers[1]


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.95))
def test_suppression_leaves_no_overlap_and_removes_nothing_without_one(seed: int, limit: float) -> None:
    rng = np.random.default_rng(seed)
    masks = rng.random((10, 5, 6)) < rng.random((10, 1, 1))
    iou = mask_iou(masks)
    kept = suppress(iou, limit)
    for row in range(10):
        stronger = kept[kept < row]
        assert (row in kept) == (not (iou[stronger, row] > limit).any())
    assert np.all(np.diff(kept) > 0)


def test_mask_iou_by_hand() -> None:
    masks = np.zeros((3, 2, 4), bool)
    masks[0, 0] = True  # 4 pixels
    masks[1, 0, :2] = masks[1, 1, :2] = True  # 4 pixels, 2 shared
    np.testing.assert_allclose(mask_iou(masks), [[1, 2 / 6, 0], [2 / 6, 1, 0], [0, 0, 1]], atol=1e-5)


def test_mask_places_by_hand() -> None:
    masks = np.zeros((2, 4, 6), bool)
    masks[0, 1:3, 2:4] = True  # 2 x 2 cells around (3, 2)
    np.testing.assert_allclose(mask_places(masks, 0.25), [[0.75, 0.5, 0.5], [0, 0, 0]])


def test_distance_by_hand() -> None:
    here = np.array([[1.0, 1.0, 0.4], [0, 0, 0]], np.float32)
    there = np.array([[1.0, 1.3, 0.1], [9, 9, 0.1]], np.float32)
    # 0.3 apart in units of sqrt(0.4 x 0.1) = 0.2; what is far, or has no size, is two sizes away
    np.testing.assert_allclose(distance(here, there), [[1.5, 2], [2, 2]], rtol=1e-5)


def test_look_alikes_are_told_apart_by_where_they_are() -> None:
    """Two objects with one embedding walk side by side and take turns at having the better score."""
    config = TrackerConfig(similarity="cosine", scale=20, nearness=2)
    embeds, probs = np.ones((2, CHANNELS), np.float32), np.full((2, CLASSES), 0.9, np.float32)
    memory = Memory.empty(CLASSES, CHANNELS, config)
    for frame in range(6):
        places = np.array([[0.1 * frame, 0.2, 0.2], [0.1 * frame, 0.6, 0.2]], np.float32)
        order = [0, 1] if frame % 2 == 0 else [1, 0]
        ids, memory = advance(memory, DetectionFeatures(probs, embeds, places[order]), config)
        assert ids.tolist() == order


def test_the_best_query_is_kept_when_none_is_good() -> None:
    probs = np.array([[0.01, 0.02], [0.05, 0.01], [0.03, 0.03]], np.float32)
    assert select_queries(probs, None, TrackerConfig()).tolist() == [1]


def test_boxes_of_another_class_do_not_suppress() -> None:
    probs = np.array([[0.9, 0.1], [0.1, 0.8], [0.7, 0.1]], np.float32)
    boxes = np.tile(np.array([0.5, 0.5, 0.2, 0.2], np.float32), (3, 1))
    assert select_queries(probs, boxes, TrackerConfig()).tolist() == [0, 1]


def test_an_unsure_detection_continues_a_track_but_begins_none() -> None:
    config = TrackerConfig()
    embeds = np.full((1, CHANNELS), 2, np.float32)
    sure = DetectionFeatures(np.array([[0.9, 0, 0]], np.float32), embeds, np.zeros((1, 3), np.float32))
    unsure = DetectionFeatures(np.array([[0.15, 0, 0]], np.float32), embeds, np.zeros((1, 3), np.float32))
    memory = Memory.empty(CLASSES, CHANNELS, config)
    ids, memory = advance(memory, unsure, config)
    assert ids.tolist() == [-1]
    ids, memory = advance(memory, sure, config)
    assert ids.tolist() == [0]
    ids, memory = advance(memory, unsure, config)
    assert ids.tolist() == [0]
