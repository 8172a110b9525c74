"""Frame models around networks of `transformers` say what these say themselves, and are tracked with."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ookd
from models.borrowed import FRAMES, tiny
from ookd.errors import UserError
from ookd.models import zoo
from ookd.models.families import family_of, preset
from ookd.models.protocols import Network
from ookd.structures import FrameQueries
from ookd.tracking.torch_model import TorchFrameModel, prepare

NAMES = ["a", "b", "c", "d", "e"]
QUERIES = 10


def frames_for(model: Network, count: int = 2) -> Tensor:
    """Noise of the size that the network was made for."""
    side = model.side or 64
    width = side if family_of(model).preprocessing.aspect != "keep" else 96
    return torch.randn(count, 3, side, width, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def seen(model: Network, frames: Tensor) -> FrameQueries:
    return model(frames, torch.zeros(len(frames), *frames.shape[-2:], dtype=torch.bool))[0]


@torch.no_grad()
def own_forward(network: nn.Module, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Class and mask logits as `transformers` computes them."""
    if hasattr(network, "attn_mask_probs"):  # masked attention: on before training, off in released weights
        network.attn_mask_probs.zero_()
    out = network(frames)
    if hasattr(out, "pred_masks"):
        return out.logits, out.pred_masks
    return out.class_queries_logits, out.masks_queries_logits


@pytest.mark.parametrize("name", FRAMES)
def test_it_answers_as_its_own_forward(name: str) -> None:
    model = tiny(name)
    frames = frames_for(model)
    answer = seen(model, frames)
    logits, masks = own_forward(model.net, frames)
    torch.testing.assert_close(answer.logits, logits, rtol=0, atol=1e-6)
    every = torch.arange(QUERIES).expand(2, -1)
    torch.testing.assert_close(answer.masks(every), masks, rtol=1e-5, atol=1e-5)
    select = torch.tensor([[3, 1, 7], [0, 2, 2]])
    chosen = masks.gather(1, select[:, :, None, None].expand(-1, -1, *masks.shape[2:]))
    torch.testing.assert_close(answer.masks(select), chosen, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", FRAMES)
def test_kept_labels_have_the_same_probabilities(name: str) -> None:
    whole, frames = tiny(name), frames_for(tiny(name))
    some = tiny(name, classes=2, keep=(4, 1), network={"num_labels": 5})
    expected, actual = (
        family_of(model).class_logits(seen(model, frames).logits).sigmoid() for model in (whole, some)
    )
    torch.testing.assert_close(actual, expected[..., [4, 1]], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", FRAMES)
def test_saved_and_loaded_it_answers_the_same(name: str, tmp_path: Path) -> None:
    model = tiny(name)
    zoo.save_pretrained(model, tmp_path, NAMES)
    again = zoo.load(tmp_path).model
    frames = frames_for(model)
    expected, actual = seen(model, frames), seen(again, frames)
    select = torch.arange(3).expand(2, -1)
    assert torch.equal(expected.logits, actual.logits)
    assert torch.equal(expected.masks(select), actual.masks(select))


@pytest.mark.parametrize("name", FRAMES)
def test_it_takes_frames_of_any_shape(name: str) -> None:
    model = tiny(name)
    multiple = family_of(model).preprocessing.multiple
    frames = torch.randn(2, 3, 2 * multiple, 3 * multiple, generator=torch.Generator().manual_seed(1))
    answer = seen(model, frames)
    assert answer.masks(torch.zeros(2, 1, dtype=torch.long)).shape[2:] == (multiple // 2, 3 * multiple // 4)
    alone = seen(model, frames[1:])
    torch.testing.assert_close(answer.logits[1:], alone.logits, rtol=1e-4, atol=1e-4)


def video(frames: int) -> list[np.ndarray]:
    """A bright square that moves over noise."""
    random = np.random.default_rng(0)
    images = []
    for t in range(frames):
        image = random.integers(0, 60, (48, 80, 3), dtype=np.uint8)
        image[10:30, 5 + t % 40 : 25 + t % 40] = (250, 200, 40)
        images.append(image)
    return images


SURE = {"select_score": 0.0, "first_score": 0.0, "new_score": 0.0, "match": 0.0, "short_side": 64}


def folder_of(name: str, folder: Path) -> Path:
    zoo.save_pretrained(tiny(name), folder, NAMES, SURE)
    return folder


@pytest.mark.parametrize("name", FRAMES)
def test_it_tracks_and_continues_from_a_saved_session(name: str, tmp_path: Path) -> None:
    tracker = ookd.load(folder_of(name, tmp_path / "model"), device="cpu")
    images = video(6)
    session = tracker.session()
    results = [session.step(image) for image in images[:3]]
    assert all(len(result) for result in results)
    assert set(results[1].ids) & set(results[2].ids)
    assert results[0].masks.shape[1:] == (48, 80)
    session.save(tmp_path / "session.safetensors")
    again = tracker.session()
    again.load(tmp_path / "session.safetensors")
    for image in images[3:]:
        expected, actual = session.step(image), again.step(image)
        assert np.array_equal(expected.ids, actual.ids)
        assert np.array_equal(expected.masks, actual.masks)


@pytest.mark.parametrize("name", FRAMES)
def test_memory_stays_flat_over_a_long_stream(name: str, tmp_path: Path) -> None:
    tracker = ookd.load(folder_of(name, tmp_path / "model"), device="cpu")
    session = tracker.session()
    images = video(20)
    sizes, arrays = [], []
    for t in range(160):
        session.step(images[t % len(images)])
        if t in (60, 159):
            sizes.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
            arrays.append(sum(array.nbytes for array in session.state.values()))
    assert sizes[1] - sizes[0] < 8_000  # KiB
    assert arrays[1] <= 2 * arrays[0]


def test_eomt_puts_frames_into_the_corner_of_black_squares() -> None:
    preprocessing = family_of(tiny("eomt-small")).preprocessing
    image = np.full((50, 100, 3), 200, np.uint8)
    frames, pad, (geometry,) = prepare([image], 64, preprocessing, torch.device("cpu"))
    assert frames.shape == (1, 3, 64, 64)
    assert (geometry.resized_height, geometry.resized_width) == (32, 64)
    assert pad[0, :32].sum() == 0
    assert pad[0, 32:].all()
    normal = preprocessing.normalise(frames, pad)
    assert normal[0, :, 40, 0].tolist() == pytest.approx([-2.1179, -2.0357, -1.8044], abs=1e-3)
    assert normal[0, 0, 10, 10] == pytest.approx((200 - 123.675) / 58.395)


def test_frames_have_the_side_of_the_network_where_the_tracker_names_none() -> None:
    model = tiny("rf-detr-seg-small")
    image = np.zeros((50, 100, 3), np.uint8)
    assert TorchFrameModel(model).infer([image], None)[0].height == 72
    assert TorchFrameModel(model).infer([image], 49)[0].height == 72  # the next multiple of 24
    assert TorchFrameModel(model).infer([image], 96)[0].height == 96


def test_what_cannot_be_built_is_one_line() -> None:
    with pytest.raises(UserError, match="keep names 2 labels, but there are 3 classes"):
        preset("eomt-small", classes=3, keep=(0, 1))
    with pytest.raises(UserError, match="'detr' is none of those that are known: rf_detr, eomt"):
        tiny("eomt-small", network={"model_type": "detr"})
    with pytest.raises(UserError, match="transformers cannot build a eomt"):
        tiny("eomt-small", network={"hidden_size": "wide"})
    backbone = {"model_type": "rf_detr_dinov2", "image_size": 90, "patch_size": 18, "num_windows": 2}
    with pytest.raises(UserError, match="image_size 90 must be a multiple of 36"):
        tiny("rf-detr-seg-small", network={"backbone_config": backbone})
