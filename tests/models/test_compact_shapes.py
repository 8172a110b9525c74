"""The compact pair at the edges: any size down to one pixel, any number of objects, reduced precision."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models.test_idol_training import random_batch
from models.test_shapes import ANY_SIZE, near, prepared
from ookd.models.compact.clip import PRESENCE, RIVAL_PENALTY, CompactClip, CompactClipConfig
from ookd.models.compact.clip_training import CompactClipTraining
from ookd.models.compact.config import CompactConfig
from ookd.models.compact.model import Compact, peak_places
from ookd.models.compact.training import CompactTraining

SIZES = {"classes": 3, "width": 32, "mask_width": 8, "embed": 16, "heads": 4, "hidden": 32, "queries": 6}
CLIP = {**SIZES, "layers": 1, "clip_queries": 5, "clip_layers": 2}


@cache
def student() -> Compact:
    torch.manual_seed(0)
    return Compact(CompactConfig.model_validate({**SIZES, "layers": 2})).eval()


@cache
def teacher() -> CompactClip:
    torch.manual_seed(0)
    return CompactClip(CompactClipConfig.model_validate(CLIP)).eval()


@settings(max_examples=8, deadline=None)
@given(ANY_SIZE, ANY_SIZE, st.integers(1, 2))
def test_the_student_takes_any_size(height: int, width: int, batch: int) -> None:
    """Down to one pixel; where the coarsest level is a single cell there may be fewer cells than queries."""
    frames, pad = prepared(batch, 3, height, width)
    model = student()
    with torch.no_grad():
        places = peak_places(model.encoder(frames, pad), 1)
        answer, _ = model(frames, pad)
        count = answer.logits.shape[1]
        masks = answer.masks(torch.tensor([[0, count - 1, 0]]).expand(batch, -1))
    assert count == min(6, frames.shape[-2] * frames.shape[-1] // 64)
    assert masks.shape == (batch, 3, frames.shape[-2] // 2, frames.shape[-1] // 2)
    assert all(x.isfinite().all() for x in (answer.logits, answer.embed, masks))
    cell = 8 / torch.tensor([frames.shape[-1], frames.shape[-2]])
    assert (places - cell / 2 < torch.tensor([width / frames.shape[-1], height / frames.shape[-2]])).all()


@settings(max_examples=6, deadline=None)
@given(ANY_SIZE, ANY_SIZE, st.integers(1, 3), st.integers(1, 2))
def test_the_teacher_takes_any_clip(height: int, width: int, length: int, batch: int) -> None:
    clip, pad = prepared(batch, length, 3, height, width)
    with torch.no_grad():
        answer = teacher()(clip, pad)
        masks = answer.masks(torch.tensor([[4, 0]]).expand(batch, -1))
    assert answer.logits.shape == (batch, 5, 3)
    assert answer.frame_features.shape == (batch, length, 5, 16)
    assert masks.shape == (batch, 2, length, clip.shape[-2] // 2, clip.shape[-1] // 2)
    assert all(x.isfinite().all() for x in (answer.logits, answer.frame_features, masks))


def test_more_queries_than_cells() -> None:
    model = Compact(CompactConfig.model_validate({**SIZES, "layers": 1, "queries": 1000})).eval()
    with torch.no_grad():
        answer, _ = model(*prepared(1, 3, 64, 96))
    assert answer.logits.shape == (1, 8 * 12, 3)


@pytest.mark.parametrize("kind", ["student", "teacher", "both"])
@pytest.mark.parametrize(
    ("instances", "frames", "height", "width"),
    [((0,), 2, 64, 96), ((3, 0), 1, 32, 32), ((1000,), 2, 64, 96), ((2, 40), 3, 32, 64)],
    ids=str,
)
def test_any_number_of_objects_gives_finite_gradients(
    kind: str, instances: Sequence[int], frames: int, height: int, width: int
) -> None:
    torch.manual_seed(0)
    task: nn.Module
    if kind == "student":
        task = CompactTraining(Compact(CompactConfig.model_validate({**SIZES, "layers": 2})))
    else:
        config = CompactClipConfig.model_validate({**CLIP, "freeze_frame": kind == "teacher"})
        task = CompactClipTraining(CompactClip(config))
    batch = random_batch(instances, frames, height, width)
    batch.seeds = range(len(instances))
    terms = task(batch)
    assert set(terms) <= set(task.weights)
    assert all(term.dim() == 0 and torch.isfinite(term) for term in terms.values())
    torch.stack([task.weights[name] * term for name, term in terms.items()]).sum().backward()
    for name, parameter in task.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name
    prefix = "frame_" if kind == "both" else ""
    if not sum(instances):
        assert terms["mask"] == terms["dice"] == terms[f"{prefix}aux_mask"] == 0
    if frames == 1 and kind != "teacher":
        assert terms[f"{prefix}embed"] == 0  # there is no other frame to be found in


def clip_answers(model: CompactClip, clip: Tensor, pad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Classes, who is in view as a cosine, and masks.

    Places and seeds are given, because rounding may change which are the best.
    """
    b, t = clip.shape[:2]
    with torch.no_grad():
        frames = model.encode(clip, pad)
        seeds = torch.arange(5).expand(b, -1)
        answer = model.decode(frames, seeds)[-1]
        masks = answer.frame.masks(torch.arange(5).expand(b * t, -1))
    return answer.logits.float(), answer.presence / (PRESENCE[0] + RIVAL_PENALTY) + PRESENCE[1], masks


@pytest.mark.parametrize("seed", [1, 3, 4])
def test_the_teacher_in_channels_last_and_bfloat16(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The frame queries' places and what clip queries claim are held fixed: both are choices of the best.

    With seeds 0 and 2 some untrained queries are so alike that presence, which takes off 40 times the
    difference to a rival, moves more than anything in the frame network does.
    """
    import ookd.models.compact.clip as module

    torch.manual_seed(seed)
    model = CompactClip(CompactClipConfig.model_validate(CLIP)).eval()
    model.load_pretrained()
    clip, pad = prepared(1, 2, 3, 64, 96)
    fixed = torch.rand(2, 6, 2)
    monkeypatch.setattr(module, "peak_places", lambda pixels, count: fixed)
    claimed = torch.arange(5).expand(1, 2, 5)
    monkeypatch.setattr(module, "claim_queries", lambda association, between: claimed)
    expected = clip_answers(model, clip, pad)
    model.to(memory_format=torch.channels_last)
    assert all(near(a, e, 1e-4) for a, e in zip(clip_answers(model, clip, pad), expected, strict=True))
    with torch.autocast("cpu", torch.bfloat16):
        actual = clip_answers(model, clip, pad)
    assert all(near(a.float(), e, 0.05) for a, e in zip(actual, expected, strict=True))
