"""Each frame signal against its formula on small numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from ookd.distill.frame_signals import FRAME_SIGNALS, FrameBatch, correlation_loss
from ookd.errors import UserError
from ookd.structures import ClipQueries, FrameQueries


@dataclass(slots=True)
class Placed(FrameQueries):
    places: Tensor
    between: Tensor | None
    layers: list[Tensor]


@dataclass(slots=True)
class Decoding(ClipQueries):
    decode_at: Callable[[Tensor, Tensor, Tensor | None], Placed]


NONE = torch.zeros(0)


def placed(embed: Tensor, places: Tensor, between: Tensor | None, layers: list[Tensor]) -> Placed:
    logits = torch.full((*embed.shape[:2], 2), 3.0)
    return Placed(logits, None, embed, layers[-1], lambda select: NONE, places, between, layers)


def mean(name: str, batch: FrameBatch) -> float:
    total, weight = FRAME_SIGNALS[name](batch)(batch)
    return (total / weight).item()


def maps_only(student: list[Tensor], teacher: list[Tensor], pad: Tensor) -> FrameBatch:
    """The teacher speaks of the second of two clips of two frames; maps [4, C, h, w] and [1, 2, C, h, w]."""
    queries = torch.zeros(4, 1, 2)
    return FrameBatch(
        FrameQueries(queries, None, queries, queries, lambda select: NONE, maps=student),
        ClipQueries(queries, None, queries, queries, lambda select: NONE, maps=teacher),
        torch.tensor([2, 3]),
        torch.tensor([0, 1]),
        pad,
    )


def test_correlation_loss_is_one_minus_the_weighted_correlation_of_each_channel() -> None:
    torch.manual_seed(0)
    student, teacher, count = torch.randn(40, 3), torch.randn(40, 3), torch.randint(1, 4, (40,))
    a, b = (x.repeat_interleave(count, 0).numpy() for x in (student, teacher))
    expected = np.mean([1 - np.corrcoef(a[:, c], b[:, c])[0, 1] for c in range(3)])
    assert correlation_loss(student, teacher, count.float()).item() == pytest.approx(expected, abs=1e-3)
    assert correlation_loss(student, 5 - 3 * student, count.float()).item() == pytest.approx(2, abs=1e-3)


def test_pixels_compare_the_maps_of_the_students_frames_where_there_is_an_image() -> None:
    """The right half is padding. The maps differ in nothing else but offset and scale, or in order."""
    torch.manual_seed(0)
    pad = torch.zeros(4, 16, 16, dtype=torch.bool)
    pad[:, :, 8:] = True
    student = torch.randn(4, 2, 4, 4)
    teacher = student[2:].clone()
    teacher[..., 2:] = torch.randn(2, 2, 4, 2)

    def loss(teacher: Tensor) -> float:
        batch = maps_only([student], [teacher[None]], pad)
        signal = FRAME_SIGNALS["pixels"](batch)
        for conv in signal.to_teacher:  # type: ignore[union-attr]
            torch.nn.init.dirac_(conv.weight)
            torch.nn.init.zeros_(conv.bias)
        total, weight = signal(batch)
        return (total / weight).item()

    assert loss(3 * teacher + 1) == pytest.approx(0, abs=1e-3)
    assert loss(teacher.flip(0)) > 0.1


def test_shared_compares_the_students_queries_with_the_teachers_twins_in_the_same_frames() -> None:
    """Another order of the queries is noticed. What the teacher is not sure of does not count."""
    torch.manual_seed(0)
    layers = [torch.randn(2, 30, 2) for _ in range(3)]
    embed = torch.randn(2, 30, 2)
    places, between = torch.rand(2, 30, 2), torch.zeros(1, 30, 30)
    sure = torch.full((2, 30, 2), 3.0)
    calls = []

    def decode_at(frames: Tensor, where: Tensor, hidden: Tensor | None) -> Placed:
        calls.append((frames, where, hidden))
        twins = [2 * x + 1 for x in layers]
        for x in twins:
            x[:, 20:] = torch.randn(2, 10, 2)
        answer = placed(3 * embed, where, hidden, twins)
        answer.logits = sure
        return answer

    def batch(embed: Tensor) -> FrameBatch:
        teacher = Decoding(NONE, None, NONE, NONE, lambda select: NONE, decode_at)
        frames = torch.tensor([0, 1])
        pad = torch.zeros(2, 16, 16, dtype=torch.bool)
        return FrameBatch(placed(embed, places, between, layers), teacher, frames, frames + 4, pad)

    assert mean("shared", batch(embed)) > 0.05
    sure[:, 20:] = -30.0
    assert mean("shared", batch(embed)) == pytest.approx(0, abs=1e-3)
    assert all(frames.tolist() == [4, 5] for frames, *_ in calls)
    assert all(where.equal(places) and hidden is between for _, where, hidden in calls)
    assert mean("shared", batch(embed.flip(1))) > 0.1


def test_pixels_need_maps_on_both_sides() -> None:
    with pytest.raises(UserError, match="no maps"):
        FRAME_SIGNALS["pixels"](maps_only([], [torch.zeros(1, 2, 2, 4, 4)], torch.zeros(4, 16, 16)))


def test_shared_needs_models_that_decode_at_given_places() -> None:
    maps = [torch.zeros(4, 2, 4, 4)], [torch.zeros(1, 2, 2, 4, 4)]
    with pytest.raises(UserError, match="cannot decode at given places"):
        FRAME_SIGNALS["shared"](maps_only(*maps, torch.zeros(4, 16, 16)))
