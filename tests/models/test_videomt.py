"""VidEoMT frame by frame gives what `transformers` gives for the whole clip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import torch.nn.functional as F

from models.staggered import check_staggered
from models.tiny_videomt import NAMES, TINY, theirs, written
from ookd.config.tracker import TrackerConfig
from ookd.data import rle
from ookd.errors import UserError
from ookd.models import zoo
from ookd.models.families import family_named, family_of, parse_config, tracker_config
from ookd.models.videomt.model import Videomt, VideomtConfig
from ookd.tracking.predict import predict_video
from ookd.tracking.recordings import Recording
from ookd.tracking.session import MultiSession, Session
from ookd.tracking.torch_model import TorchFrameModel

SMALL = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "num_blocks": 3}
CPU = torch.device("cpu")
SURE = {"short_side": 64, "select_score": 0.1, "first_score": 0.1, "new_score": 0.1, "mask_nms": 1.0}


def ours(model: torch.nn.Module) -> Videomt:
    network = Videomt(VideomtConfig.from_transformers(model.config.to_dict())[0]).eval()
    network.net.load_state_dict(model.state_dict())
    return network


@pytest.fixture(scope="module")
def tiny() -> Videomt:
    model = theirs()
    with torch.no_grad():
        model.class_predictor.weight *= 8  # so that some queries are sure of something
    return ours(model)


def images(count: int, size: tuple[int, int] = (64, 64), seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 255, (*size, 3), dtype=np.uint8) for _ in range(count)]


@torch.no_grad()
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_swiglu_ffn": True},
        {"num_register_tokens": 0},
        {**SMALL, "image_size": 192, "num_queries": 200},
    ],
    ids=["tiny", "gated", "no-registers", "small"],
)
def test_streams_equal_the_whole_clip(changes: dict[str, Any]) -> None:
    """Two streams of six frames; after the third the state is saved and restored."""
    model = theirs(**changes)
    network, side = ours(model), model.config.image_size
    clip = torch.randn(2, 6, 3, side, side, generator=torch.Generator().manual_seed(1))
    whole = model(pixel_values_videos=clip)
    logits, masks = (  # theirs come frame by frame: all streams of the first frame, then of the second
        x.unflatten(0, (6, 2)) for x in (whole.class_queries_logits, whole.masks_queries_logits)
    )
    pad, frame_model = torch.zeros(2, side, side, dtype=torch.bool), TorchFrameModel(network, CPU)
    state = network.begin(2)
    select = torch.tensor([[4, 1, 7], [0, 2, 9]])
    for t in range(6):
        answer, state = network(clip[:, t], pad, state)
        assert (answer.logits - logits[t]).abs().max() < 1e-5
        chosen = masks[t][torch.arange(2)[:, None], select]
        assert (answer.masks(select) - chosen).abs().max() < 1e-5 * chosen.abs().max()
        if t == 2:
            state = frame_model.load_state(frame_model.save_state(state))
    fresh, _ = network(clip[:, 5], pad)
    assert (fresh.logits - logits[5]).abs().max() > 0.01  # the frames before do matter


@torch.no_grad()
def test_other_sizes_resize_the_position_table() -> None:
    """As if the model had been made for that size with a table that timm resized."""
    small, large = theirs(), theirs(image_size=96)
    state = small.state_dict()
    table = state["embeddings.position_embeddings.weight"].T.reshape(1, 32, 4, 4)
    resized = F.interpolate(table, (6, 6), mode="bicubic", antialias=True, align_corners=False)
    state["embeddings.position_embeddings.weight"] = resized.reshape(32, 36).T
    large.load_state_dict(state)
    frames = torch.randn(1, 3, 96, 96)
    answer, _ = ours(small)(frames, torch.zeros(1, 96, 96, dtype=torch.bool))
    expected = large(pixel_values_videos=frames[:, None])
    assert (answer.logits - expected.class_queries_logits).abs().max() < 1e-5


def test_frames_keep_their_shape(tiny: Videomt) -> None:
    assert family_of(tiny).preprocessing.resized(720, 1280, 448) == (448, 796)
    seen, _ = TorchFrameModel(tiny, CPU).infer(images(1, (72, 128)), 48)
    assert seen.masks(np.array([[3]])).shape == (1, 1, 64 // 4, 96 // 4)


def session(model: Videomt, **changes: Any) -> Session:
    return Session(model, tracker_config("videomt", {**SURE, **changes}), NAMES, CPU)


def test_ids_are_query_slots_and_stay(tiny: Videomt) -> None:
    running, owner = session(tiny), {}
    for image in images(8):
        result = running.step(image)
        memory = running._stream.tracker.memory
        owner.update(zip(memory.ids.tolist(), memory.query.tolist(), strict=True))
        assert len(set(owner.values())) == len(owner)
        assert set(result.ids.tolist()) <= owner.keys()
    assert len(owner) >= 2


def test_scores_are_the_softmax_without_nothing(tiny: Videomt) -> None:
    (image,) = images(1)
    result = session(tiny).step(image)
    frames = torch.from_numpy(image).permute(2, 0, 1)[None]
    pad = torch.zeros(1, 64, 64, dtype=torch.bool)
    with torch.no_grad():
        answer, _ = tiny(family_of(tiny).preprocessing.normalise(frames, pad), pad)
    probs = answer.logits.softmax(-1)[0, :, :-1].amax(-1).sort(descending=True).values.numpy()
    np.testing.assert_allclose(result.scores, probs[: len(result)], rtol=1e-4)


def test_a_session_is_saved_and_restored_in_the_middle(tiny: Videomt, tmp_path: Path) -> None:
    frames, first, again = images(8), session(tiny), session(tiny)
    for image in frames[:4]:
        first.step(image)
    first.save(tmp_path / "session.safetensors")
    again.load(tmp_path / "session.safetensors")
    for image in frames[4:]:
        before, after = first.step(image), again.step(image)
        assert np.array_equal(before.ids, after.ids)
        assert np.array_equal(before.masks, after.masks)


def test_a_session_is_saved_before_its_first_frame(tiny: Videomt, tmp_path: Path) -> None:
    first, again = session(tiny), session(tiny)
    first.save(tmp_path / "session.safetensors")
    again.load(tmp_path / "session.safetensors")
    (image,) = images(1)
    assert np.array_equal(again.step(image).masks, first.step(image).masks)


def test_streams_that_start_at_different_times_share_a_batch(tiny: Videomt) -> None:
    config = tracker_config("videomt", SURE)
    together = MultiSession(tiny, config, NAMES, CPU, 2)
    check_staggered(together, lambda: session(tiny), images(6), images(3, seed=1))


@torch.no_grad()
def test_the_published_answer_about_a_video(tiny: Videomt) -> None:
    """Mean logits over all frames, softmax, each pair of query and class; masks where they are above 0."""
    frames = images(5)
    config = tracker_config(
        "videomt",
        {
            "short_side": 64,
            "pool": "logits",
            "select_score": 0,
            "first_score": 0,
            "new_score": 0,
            "mask_nms": 1,
            "final_score": 0.01,
        },
    )
    recording = Recording(1, len(frames), lambda which: (frames[i] for i in which))
    results = list(predict_video(tiny, recording, config, range(5)))
    clip = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    clip = family_of(tiny).preprocessing.normalise(clip, torch.zeros(5, 64, 64, dtype=torch.bool))
    whole = tiny.net(pixel_values_videos=clip[None])
    scores = whole.class_queries_logits.mean(0).softmax(-1)[:, :-1]
    expected = [(float(scores[q, k]), q, k) for q in range(10) for k in range(5) if scores[q, k] > 0.01]
    expected.sort(reverse=True)
    results.sort(key=lambda result: -result.score)
    np.testing.assert_allclose([r.score for r in results], [score for score, _, _ in expected], rtol=1e-3)
    assert [result.category_id for result in results] == [k for _, _, k in expected]
    large = F.interpolate(whole.masks_queries_logits, (64, 64), mode="bilinear") > 0
    for result, (_, query, _) in zip(results[:5], expected, strict=False):
        for t, mask in enumerate(result.segmentations):
            assert mask is not None
            assert np.mean(rle.decode(mask) != large[t, query].numpy()) < 0.01


def test_pooling_logits_needs_slots() -> None:
    with pytest.raises(UserError, match=r'pool "logits" needs the associator "slot"'):
        TrackerConfig().changed({"pool": "logits"})


def test_memory_is_flat(tiny: Videomt) -> None:
    running, frames, process = session(tiny, horizon=100), images(50), psutil.Process()
    sizes = []
    for t in range(2000):
        running.step(frames[t % 50])
        if t % 500 == 499:
            sizes.append(process.memory_info().rss / 2**20)
    assert sizes[-1] - sizes[0] < 8
    assert sum(array.nbytes for array in running.state.values()) < 10_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 33}, "hidden_size 33 does not split into 2 heads"),
        ({"num_blocks": 5}, "num_blocks 5 is more than all 4 layers"),
        ({"patch_size": 14}, "patch_size 14 must divide 32 and image_size"),
        ({"depth": 3}, "depth: Extra inputs"),
    ],
)
def test_what_cannot_be_built_is_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        parse_config({"family": "videomt", **TINY, **change})
    assert "\n" not in str(raised.value)


def test_the_small_preset_is_the_model_of_the_hub(tmp_path: Path) -> None:
    """What config.json leaves out is the large model's, as in `transformers`."""
    folder = written(tmp_path / "m", **SMALL, image_size=640, num_queries=200)
    preset = family_named("videomt").presets["videomt-s"]
    assert zoo.config_of(folder) == preset.model_copy(update={"classes": 5, "backbone": ""})
