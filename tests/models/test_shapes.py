"""Any size, any number of frames and queries, reduced precision: what must hold whatever the weights are."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ookd.models.backbones.resnet import ResNetConfig
from ookd.models.idol.model import Idol, IdolConfig
from ookd.models.parts.mask_head import dynamic_masks, upsample
from ookd.models.preprocess import IMAGENET
from ookd.models.seqformer.model import SeqFormer, SeqFormerConfig

SMALL = {"classes": 3, "dim": 64, "encoder_layers": 1, "decoder_layers": 2, "ffn": 16, "dropout": 0.0}
ANY_SIZE = st.integers(1, 90)


@cache
def shared_idol() -> Idol:
    """For tests that leave it as it is."""
    return idol()


def idol(queries: int = 5) -> Idol:
    torch.manual_seed(0)
    return Idol(IdolConfig(backbone=ResNetConfig(width=4), queries=queries, **SMALL)).eval()


@cache
def shared_seqformer() -> SeqFormer:
    """For tests that leave it as it is."""
    return seqformer()


def seqformer() -> SeqFormer:
    torch.manual_seed(0)
    return SeqFormer(SeqFormerConfig(backbone=ResNetConfig(width=4), queries=5, **SMALL)).eval()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def prepared(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    frames, pad = IMAGENET.pad(noise(*shape, seed=seed))
    return IMAGENET.normalise(frames, pad), pad


def near(actual: Tensor, expected: Tensor, share: float) -> bool:
    """Within a share of the largest value."""
    return float((actual - expected).abs().max()) <= share * float(expected.abs().max())


@settings(max_examples=15, deadline=None)
@given(ANY_SIZE, ANY_SIZE, st.integers(1, 2), st.booleans())
def test_idol_takes_any_size(height: int, width: int, batch: int, padded: bool) -> None:
    """Down to one pixel, where every level is a single cell; padded to the stride, or not at all."""
    if padded:
        frames, pad = prepared(batch, 3, height, width)
    else:
        pad = torch.zeros(batch, height, width, dtype=torch.bool)
        frames = IMAGENET.normalise(noise(batch, 3, height, width), pad)
    with torch.no_grad():
        answer, _ = shared_idol()(frames, pad)
        masks = answer.masks(torch.tensor([[4, 0, 4]]).expand(batch, -1))
    assert answer.logits.shape == (batch, 5, 3)
    rows, columns = (-(-size // 8) * 2 for size in frames.shape[-2:])
    assert masks.shape == (batch, 3, rows, columns)
    assert answer.boxes is not None
    assert all(x.isfinite().all() for x in (answer.logits, answer.boxes, answer.embed, masks))
    assert ((answer.boxes >= 0) & (answer.boxes <= 1)).all()


@settings(max_examples=8, deadline=None)
@given(ANY_SIZE, ANY_SIZE, st.integers(1, 4), st.integers(1, 2))
def test_seqformer_takes_any_clip(height: int, width: int, length: int, batch: int) -> None:
    model = shared_seqformer()
    with torch.no_grad():
        answer = model(*prepared(batch, length, 3, height, width))
        masks = answer.masks(torch.tensor([[1, 3]]).expand(batch, -1))
    assert answer.logits.shape == (batch, 5, 3)
    assert answer.boxes is not None
    assert answer.boxes.shape == (batch, length, 5, 4)
    assert answer.frame_features.shape == (batch, length, 5, 64)
    assert masks.shape[:3] == (batch, 2, length)
    assert all(x.isfinite().all() for x in (answer.logits, answer.boxes, masks))


def test_frames_of_different_sizes_in_one_batch() -> None:
    """What a frame gives depends on its neighbours only through the width of its padding."""
    small, large = noise(1, 3, 60, 90), noise(1, 3, 128, 128, seed=1)
    canvas = torch.zeros(2, 3, 128, 128, dtype=torch.uint8)
    pad = torch.ones(2, 128, 128, dtype=torch.bool)
    for row, frame in enumerate((small, large)):
        canvas[row, :, : frame.shape[-2], : frame.shape[-1]] = frame[0]
        pad[row, : frame.shape[-2], : frame.shape[-1]] = False
    model = shared_idol()
    with torch.no_grad():
        both, _ = model(IMAGENET.normalise(canvas, pad), pad)
        alone, _ = model(IMAGENET.normalise(canvas[1:], pad[1:]), pad[1:])
        content = torch.where(pad[:, None], 77, canvas)  # what lies under the padding
        other, _ = model(IMAGENET.normalise(content, pad), pad)
    assert near(both.logits[1:], alone.logits, 1e-5)
    assert torch.equal(both.logits, other.logits)


def test_a_thousand_queries() -> None:
    model = idol(queries=1000)
    frames, pad = prepared(1, 3, 64, 64)
    with torch.no_grad():
        answer, _ = model(frames, pad)
        masks = answer.masks(torch.arange(1000)[None])
        few = answer.masks(torch.tensor([[3, 999]]))
    assert masks.shape == (1, 1000, 16, 16)
    assert near(masks[:, [3, 999]], few, 1e-5)


MODELS = {"idol": (idol, (2,)), "seqformer": (seqformer, (1, 2))}


def answers(model: Idol | SeqFormer, frames: Tensor, pad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    with torch.no_grad():
        answer = model(frames, pad)
        answer = answer[0] if isinstance(model, Idol) else answer
        assert answer.boxes is not None
        return answer.logits, answer.boxes, answer.masks(torch.arange(5).expand(len(frames), -1))


@pytest.mark.parametrize("name", MODELS)
def test_channels_last_changes_nothing(name: str) -> None:
    make, shape = MODELS[name]
    frames, pad = prepared(*shape, 3, 90, 120)
    model = make()
    expected = answers(model, frames, pad)
    model.to(memory_format=torch.channels_last)
    actual = answers(model, frames, pad)
    assert all(near(a, e, 1e-4) for a, e in zip(actual, expected, strict=True))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("how", ["autocast", "weights"])
def test_bfloat16_stays_near_float32(how: str, name: str) -> None:
    """Boxes within 1 % of the frame, logits and masks within 5 % of their range; answers stay float32."""
    make, shape = MODELS[name]
    frames, pad = prepared(*shape, 3, 90, 120)
    model = make()
    expected = answers(model, frames, pad)
    if how == "autocast":
        with torch.autocast("cpu", torch.bfloat16):
            actual = answers(model, frames, pad)
    else:
        actual = answers(model.bfloat16(), frames.bfloat16(), pad)
    assert {x.dtype for x in actual} == {torch.float32}
    assert near(actual[0], expected[0], 0.05)
    assert float((actual[1] - expected[1]).abs().max()) < 0.01
    assert near(actual[2], expected[2], 0.05)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [(1, 1), (33, 7), (64, 96)], ids=str)
def test_gradients_are_finite(size: tuple[int, int], name: str) -> None:
    make, shape = MODELS[name]
    model = make().train()
    for answer in model.layers(*prepared(1, *shape[1:], 3, *size)):
        assert answer.boxes is not None
        masks = answer.masks(torch.tensor([[0, 2]]))
        none = answer.masks(torch.zeros(1, 0, dtype=torch.long))
        loss = answer.logits.sum() + answer.boxes.sum() + answer.features.sum() + masks.sum() + none.sum()
        loss = loss + (answer.embed.sum() if name == "idol" else answer.frame_features.sum())
        loss.backward(retain_graph=True)
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(grads) > 100
    assert all(grad.isfinite().all() for grad in grads)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
def test_mask_upsampling_is_aligned_bilinear(height: int, width: int, seed: int) -> None:
    """Against the definition by library calls: replicate, resize to 2n + 1 with corners aligned, crop."""
    x = torch.randn(1, 2, height, width, generator=torch.Generator().manual_seed(seed))
    pad, resize = torch.nn.functional.pad, torch.nn.functional.interpolate
    expected = pad(x, (0, 1, 0, 1), mode="replicate")
    expected = resize(expected, (2 * height + 1, 2 * width + 1), mode="bilinear", align_corners=True)
    expected = pad(expected, (1, 0, 1, 0), mode="replicate")[..., : 2 * height, : 2 * width]
    torch.testing.assert_close(upsample(x), expected)


def test_dynamic_masks_by_hand() -> None:
    """Query 0's network passes on the way to its point in x, query 1's the first map; both halve it."""
    maps = torch.zeros(1, 8, 1, 2)
    maps[0, 0, 0] = torch.tensor([3.0, 5.0])
    w0, w1, w2 = torch.zeros(2, 8, 10), torch.eye(8).expand(2, -1, -1).clone(), torch.zeros(2, 8)
    w0[0, 0, 0] = w0[1, 0, 2] = 1
    w2[:, 0] = 0.5
    b0, b1, b2 = torch.zeros(2, 8), torch.zeros(2, 8), torch.tensor([[1.0], [-1.0]])
    parameters = torch.cat([part.flatten(1) for part in (w0, w1, w2, b0, b1, b2)], 1)[None]
    points = torch.tensor([[[20.0, 7.0], [20.0, 7.0]]])
    # Cell centres are at x = 4 and 12, so the point is 16 and 8 pixels away.
    expected = torch.tensor([[[[9.0, 5.0]], [[0.5, 1.5]]]])
    torch.testing.assert_close(dynamic_masks(parameters, points, maps), expected)
