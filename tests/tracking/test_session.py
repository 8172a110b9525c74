"""Streams: identities, state, many at once."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors.numpy
import torch

from ookd.config.tracker import TrackerConfig
from ookd.data.rle import decode
from ookd.errors import UserError
from ookd.structures import FrameResult
from ookd.tracking.associators import ASSOCIATORS
from ookd.tracking.session import MultiSession, Session
from ookd.tracking.torch_model import device_named
from ookd.tracking.video_tracker import ResultFilter
from tracking.colour_model import LABELS, NAMES, PALETTE, ColourModel, corner, scene

CONFIG = TrackerConfig()
CPU = torch.device("cpu")


def session(carry: bool = False, **options) -> Session:
    return Session(ColourModel(carry), CONFIG, NAMES, CPU, **options)


def assert_same(one: FrameResult, other: FrameResult, rounding: float = 0) -> None:
    assert one.index == other.index
    for name in ("ids", "labels", "boxes_xyxy", "masks"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    np.testing.assert_allclose(one.scores, other.scores, rtol=rounding)


def test_objects_keep_their_identity_through_absence() -> None:
    live = session()
    colour_of_id = {}
    for frame in range(30):
        image = scene(frame)
        result = live.step(image)
        assert result.index == frame
        visible = {tuple(colour) for colour in image.reshape(-1, 3)} & {tuple(c) for c in PALETTE}
        assert len(result) == len(visible)
        for id, label, mask in zip(result.ids.tolist(), result.labels.tolist(), result.masks, strict=True):
            colours = np.unique(image[mask], axis=0).tolist()
            (colour,) = [c for c, rgb in enumerate(PALETTE.tolist()) if rgb in colours]
            assert colour_of_id.setdefault(id, colour) == colour
            assert label == LABELS[colour]
    assert sorted(colour_of_id.values()) == [0, 1, 2, 3]  # absent for 5 frames each, less than the horizon


def test_masks_and_boxes_are_those_of_the_original_frame() -> None:
    result = session().step(scene(0))
    by_left = np.argsort(result.boxes_xyxy[:, 1])
    for place, (box, mask) in enumerate(zip(result.boxes_xyxy[by_left], result.masks[by_left], strict=True)):
        y, x, side = corner(0, place)
        np.testing.assert_allclose(box, [x, y, x + side, y + side], atol=2)
        truth = np.zeros_like(mask)
        truth[y : y + side, x : x + side] = True
        assert (mask & truth).sum() / (mask | truth).sum() > 0.85


def test_a_model_may_be_shown_another_size() -> None:
    small = Session(ColourModel(), TrackerConfig(short_side=48), NAMES, CPU).step(scene(0))
    assert small.masks.shape == (3, 96, 128)
    np.testing.assert_allclose(small.boxes_xyxy[:, 2] - small.boxes_xyxy[:, 0], 16, atol=4)


def test_live_class_scores_are_the_mean_over_the_frames_so_far() -> None:
    live = session(carry=True)
    scores = [live.step(scene(0)).scores for _ in range(3)]
    cells = 16  # of a 16 x 16 square at stride 4
    each = [1 / (1 + np.exp(-(1.5 + 0.01 * cells - 0.05 * step))) for step in range(3)]
    for steps, score in enumerate(scores, 1):
        np.testing.assert_allclose(score, np.mean(each[:steps]), rtol=1e-5)


@pytest.mark.parametrize("carry", [False, True])
def test_saved_and_restored_at_every_frame(carry: bool, tmp_path) -> None:
    straight, broken = session(carry), session(carry)
    for frame in range(24):
        broken.save(tmp_path / "state.safetensors")
        broken = session(carry)
        broken.load(tmp_path / "state.safetensors")
        assert_same(broken.step(scene(frame)), straight.step(scene(frame)))


def test_what_a_stream_carries_does_not_grow() -> None:
    """Objects come and go for thirty horizons; ids go up, memory does not."""
    live = Session(ColourModel(), TrackerConfig(horizon=4), NAMES, CPU)
    sizes = []
    for frame in range(120):
        result = live.step(scene(frame))
        sizes.append(sum(array.nbytes for array in live.state.values()))
    assert max(result.ids) > 12
    assert max(sizes[60:]) <= max(sizes[:60])


def test_two_interleaved_streams_equal_two_runs() -> None:
    model = ColourModel(carry=True)
    first, second = (Session(model, CONFIG, NAMES, CPU) for _ in range(2))
    one = [session(carry=True), session(carry=True)]
    for frame in range(15):
        assert_same(first.step(scene(frame)), one[0].step(scene(frame)))
        assert_same(second.step(scene(frame, colours=(5, 4))), one[1].step(scene(frame, colours=(5, 4))))


def test_a_batch_of_streams_equals_single_ones() -> None:
    model = ColourModel(carry=True)
    streams = MultiSession(model, CONFIG, NAMES, CPU, 3)
    single = [session(carry=True) for _ in range(3)]
    sizes = [(96, 128), (96, 128), (100, 90)]
    for frame in range(15):
        images = [scene(frame + 9 * i, size, (i, 3, 4)) for i, size in enumerate(sizes)]
        for together, image, alone in zip(streams.step(images), images, single, strict=True):
            assert_same(together, alone.step(image), rounding=1e-6)
    assert model.calls == 15


@pytest.mark.parametrize("carry", [False, True])
def test_streams_may_start_pause_and_restart_at_any_time(carry: bool) -> None:
    """Each frame goes to some of the streams, batched; each stream is the same as alone."""
    streams = MultiSession(ColourModel(carry), CONFIG, NAMES, CPU, 3)
    single = [session(carry) for _ in range(3)]
    for frame in range(18):
        chosen = [i for i, first in enumerate((0, 4, 9)) if frame >= first and (frame + i) % 5]
        if frame == 11:
            streams.restart(1)
            single[1] = session(carry)
        images = [scene(frame + 9 * i, colours=(i, 3, 4)) for i in chosen]
        for together, image, i in zip(streams.step(images, chosen), images, chosen, strict=True):
            assert_same(together, single[i].step(image), rounding=1e-6)


def test_a_stream_is_restored_in_the_middle_of_its_video_while_another_begins() -> None:
    one = session(carry=True)
    for frame in range(7):
        one.step(scene(frame))
    streams = MultiSession(ColourModel(carry=True), CONFIG, NAMES, CPU, 2)
    streams.streams[1].state = one.state
    other = session(carry=True)
    for frame in range(7, 14):
        images = [scene(frame, colours=(5, 4)), scene(frame)]
        fresh, restored = streams.step(images)
        assert_same(fresh, other.step(images[0]), rounding=1e-6)
        assert_same(restored, one.step(images[1]), rounding=1e-6)
    assert [stream.state["model.steps"].item() for stream in streams.streams] == [7, 14]


@pytest.mark.parametrize("associator", ASSOCIATORS)
def test_a_session_of_every_associator_is_saved_and_restored(associator: str, tmp_path) -> None:
    config = TrackerConfig(associator=associator)
    straight = Session(ColourModel(), config, NAMES, CPU)
    for frame in range(16):
        broken = Session(ColourModel(), config, NAMES, CPU)
        if frame:
            broken.load(tmp_path / "state")
        assert_same(broken.step(scene(frame)), straight.step(scene(frame)))
        broken.save(tmp_path / "state")
    with pytest.raises(UserError, match="other classes or tracker constants"):
        Session(ColourModel(), TrackerConfig(horizon=3), NAMES, CPU).load(tmp_path / "state")


def test_a_state_saved_before_there_was_a_constant_is_still_read(tmp_path) -> None:
    live = session()
    live.step(scene(0))
    constants = CONFIG.model_dump()
    del constants["associator"]
    made_with = {"tracker": json.dumps(constants), "names": json.dumps(NAMES)}
    safetensors.numpy.save_file(live.state, tmp_path / "state", made_with)
    restored = session()
    restored.load(tmp_path / "state")
    assert_same(restored.step(scene(1)), live.step(scene(1)))


def test_the_size_of_a_stream_may_change() -> None:
    live = session()
    before = live.step(scene(0, (96, 128)))
    after = live.step(scene(1, (128, 160)))
    assert after.masks.shape[1:] == (128, 160)
    assert set(after.ids.tolist()) == set(before.ids.tolist())


def test_only_what_is_wanted_is_shown_but_everything_is_tracked() -> None:
    everything, leaves = session(), session(show=ResultFilter(labels={1}))
    none = session(show=ResultFilter(score=0.999))
    for frame in range(10):
        image = scene(frame)
        all_of_it, result = everything.step(image), leaves.step(image)
        assert result.ids.tolist() == all_of_it.ids[all_of_it.labels == 1].tolist()
        assert len(none.step(image)) == 0


def test_an_empty_scene_has_no_objects() -> None:
    result = session().step(np.full((96, 128, 3), 128, np.uint8))
    assert len(result) == 0
    assert result.masks.shape == (0, 96, 128)
    assert result.boxes_xyxy.shape == (0, 4)


def test_final_results_agree_with_the_live_ones() -> None:
    live = session(final=True)
    masks = {}
    for frame in range(20):
        result = live.step(scene(frame))
        for id, mask in zip(result.ids.tolist(), result.masks, strict=True):
            masks[id, frame] = mask
    tracks = list(live.results.tracks(7, [10, 20, 30]))
    assert {track.video_id for track in tracks} == {7}
    assert sorted(track.category_id for track in tracks) == [10, 10, 20, 30]
    decoded = [
        {frame: decode(rle) for frame, rle in enumerate(track.segmentations) if rle is not None}
        for track in tracks
    ]
    for id in {id for id, _ in masks}:
        own = {frame: mask for (other, frame), mask in masks.items() if other == id}
        assert any(
            own.keys() == track.keys() and all(np.array_equal(own[f], track[f]) for f in own)
            for track in decoded
        )


@pytest.mark.parametrize(
    ("image", "word"),
    [
        (np.zeros((96, 128), np.uint8), "height, width, 3"),
        (np.zeros((96, 128, 4), np.uint8), "height, width, 3"),
        (np.zeros((96, 128, 3), np.float32), "uint8"),
        (np.zeros((0, 128, 3), np.uint8), "height, width, 3"),
    ],
)
def test_what_is_no_image_is_refused(image: np.ndarray, word: str) -> None:
    with pytest.raises(UserError, match=word):
        session().step(image)


def test_a_flipped_view_and_a_read_only_image_are_fine() -> None:
    image = scene(3)
    image.flags.writeable = False
    assert_same(session().step(image), session().step(image[:, :, ::-1][:, :, ::-1]))


def test_a_state_from_elsewhere_is_refused(tmp_path) -> None:
    path = tmp_path / "state.safetensors"
    path.write_bytes(b"not a state")
    with pytest.raises(UserError, match="not a saved session"):
        session().load(path)
    with pytest.raises(UserError, match="no such file"):
        session().load(tmp_path / "missing")
    other = Session(ColourModel(), TrackerConfig(memory_length=5), NAMES, CPU)
    other.step(scene(0))
    other.save(path)
    with pytest.raises(UserError, match="other classes or tracker constants"):
        session().load(path)
    renamed = Session(ColourModel(), CONFIG, ["pear", *NAMES[1:]], CPU)
    renamed.save(path)
    with pytest.raises(UserError, match="other classes or tracker constants"):
        session().load(path)
    with pytest.raises(UserError, match="cannot be written"):
        session().save(path / "state.safetensors")


def test_a_state_of_a_model_of_another_width_is_refused_when_it_is_loaded(tmp_path) -> None:
    """And before the next image comes."""
    path = tmp_path / "state.safetensors"
    other = session()
    other.step(scene(0))
    state = other.state
    state["memory.embeds"] = np.pad(state["memory.embeds"], [(0, 0), (0, 0), (0, 2)])
    safetensors.numpy.save_file(state, path, other._made_with())
    fresh = session()
    with pytest.raises(UserError, match=r"have \d+ channels, those of the model \d+"):
        fresh.load(path)
    assert fresh.step(scene(0)).ids.tolist() == session().step(scene(0)).ids.tolist()


def test_results_must_be_asked_for_and_a_step_needs_an_image_a_stream() -> None:
    with pytest.raises(UserError, match="final=True"):
        _ = session().results
    with pytest.raises(UserError, match="1 images for 2 streams"):
        MultiSession(ColourModel(), CONFIG, NAMES, CPU, 2).step([scene(0)])


def without(name: str):
    return lambda arrays: arrays.pop(name)


def put(name: str, value):
    return lambda arrays: arrays.update({name: value(arrays[name])})


@pytest.mark.parametrize(
    "harm",
    [
        without("memory.ids"),
        without("memory.frame"),
        lambda arrays: arrays.update({"memory.more": np.zeros(2)}),
        put("memory.ids", lambda ids: ids[:-1]),
        put("memory.ids", lambda ids: ids[::-1].copy()),
        put("memory.ids", lambda ids: ids.astype(np.float32)),
        put("memory.seen", lambda seen: seen * 0),
        put("memory.probs", lambda probs: probs * np.nan),
        put("memory.probs", lambda probs: probs[:, :-1].copy()),
        put("memory.embeds", lambda embeds: embeds[:, 0].copy()),
        put("memory.embeds", lambda embeds: embeds[:, :1].copy()),
        put("memory.scores", lambda scores: np.full_like(scores, np.inf)),
        put("memory.places", lambda places: places.astype(bool)),
        put("memory.frame", lambda frame: np.array([1, 2])),
    ],
)
def test_a_damaged_state_is_one_line(harm, tmp_path) -> None:
    path, live = tmp_path / "state.safetensors", session()
    live.step(scene(0))
    live.save(path)
    with safetensors.safe_open(path, "numpy") as file:
        arrays, notes = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    harm(arrays)
    safetensors.numpy.save_file(arrays, path, notes)
    with pytest.raises(UserError, match="a saved memory does not fit this tracker"):
        session().load(path)


def test_class_scores_of_long_streams_keep_moving() -> None:
    live = session()
    for frame in range(3):
        live.step(scene(frame))
    arrays = live.state
    days = 2**25  # frames
    for name in ("memory.frame", "memory.seen", "memory.last"):
        arrays[name] = arrays[name] + days
    arrays["memory.probs"] = arrays["memory.probs"] * 0 + days * 0.5
    before = arrays["memory.probs"].copy()
    live.state = arrays
    live.step(scene(3))
    grown = live.state["memory.probs"] - before
    assert ((grown > 0) & (grown < 1)).any()


@pytest.mark.parametrize("name", ["meta", "gpu", "cuda:²", "cpu:9999999999999999999999", "", "\0"])
def test_a_device_that_cannot_compute_is_one_line(name: str) -> None:
    with pytest.raises(UserError, match="is not available; choose from"):
        device_named(name)
