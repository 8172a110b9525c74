"""Loss terms against their formulas, written out with plain numbers."""

from __future__ import annotations

import math
import random

import pytest
import torch
from torch import Tensor

from ookd.losses import (
    cosine_aux,
    dice,
    heatmap_focal,
    mask_bce,
    mask_focal,
    mask_quality,
    mean_over_ranks,
    pair_logsumexp,
    quality_focal,
    sigmoid_focal,
    stride4,
)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def rows(*values: list[float]) -> Tensor:
    return torch.tensor(values)


@pytest.mark.parametrize("logit", [-3.0, 0.0, 1.5])
def test_focal_follows_its_formula(logit: float) -> None:
    p = sigmoid(logit)
    value = sigmoid_focal(torch.tensor([logit, logit]), torch.tensor([1.0, 0.0]), alpha=0.3, gamma=1.5)
    assert value[0].item() == pytest.approx(-0.3 * (1 - p) ** 1.5 * math.log(p), rel=1e-5)
    assert value[1].item() == pytest.approx(-0.7 * p**1.5 * math.log(1 - p), rel=1e-5)


def test_heatmap_focal_forgives_beside_a_peak() -> None:
    p = sigmoid(0.4)
    value = heatmap_focal(torch.full((3,), 0.4), torch.tensor([1.0, 0.5, 0.0]))
    expected = [
        -((1 - p) ** 2) * math.log(p),
        -(0.5**4) * p**2 * math.log(1 - p),
        -(p**2) * math.log(1 - p),
    ]
    torch.testing.assert_close(value, torch.tensor(expected))


def test_losses_stay_finite_for_extreme_logits_and_half_precision() -> None:
    logits = torch.tensor([[-200.0, 200.0], [200.0, -200.0]], dtype=torch.bfloat16, requires_grad=True)
    targets = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    total = sum(
        term(logits, targets).sum() for term in (sigmoid_focal, heatmap_focal, mask_focal, mask_bce, dice)
    )
    assert isinstance(total, Tensor)
    assert total.dtype == torch.float32
    assert torch.isfinite(total)
    total.backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_mask_terms_of_a_tube() -> None:
    logits, targets = torch.randn(2, 3, 4, 5), (torch.rand(2, 3, 4, 5) > 0.5).float()
    for index in range(2):
        p, t = logits[index].sigmoid(), targets[index]
        soft = 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)
        torch.testing.assert_close(dice(logits, targets)[index], soft)
        entropy = -(t * p.log() + (1 - t) * (1 - p).log()).sum() / (2 * t.sum() + 16)
        torch.testing.assert_close(mask_bce(logits, targets)[index], entropy)
        focal = sigmoid_focal(logits[index], t).sum() / 60
        torch.testing.assert_close(mask_focal(logits, targets)[index], focal)


def test_dice_of_an_empty_mask_answered_empty_is_zero() -> None:
    assert dice(torch.full((1, 8), -100.0), torch.zeros(1, 8)).item() == pytest.approx(0)
    assert dice(torch.full((1, 8), 100.0), torch.ones(1, 8)).item() == pytest.approx(0)
    assert dice(torch.full((1, 8), 100.0), torch.zeros(1, 8)).item() == pytest.approx(1 - 1 / 9)


def test_no_instances_cost_nothing_and_keep_the_graph() -> None:
    logits = torch.zeros(0, 4, 4, requires_grad=True)
    total = dice(logits, torch.zeros(0, 4, 4)).sum() + mask_focal(logits, torch.zeros(0, 4, 4)).sum()
    assert total.item() == 0
    total.backward()


def test_pair_logsumexp_equals_the_sum_over_pairs() -> None:
    similarity = torch.tensor([[2.0, -1.0, 0.5, 3.0, 9.0]], requires_grad=True)
    positive = torch.tensor([[True, True, False, False, False]])
    negative = torch.tensor([[False, False, True, True, False]])  # the last is neither
    pairs = sum(math.exp(n - p) for n in (0.5, 3.0) for p in (2.0, -1.0))
    loss = pair_logsumexp(similarity, positive, negative)
    assert loss.item() == pytest.approx(math.log(1 + pairs), rel=1e-6)
    loss.sum().backward()
    assert similarity.grad is not None
    assert similarity.grad[0, 4] == 0
    assert similarity.grad[0, 2].item() == pytest.approx(
        sum(math.exp(0.5 - p) for p in (2.0, -1.0)) / (1 + pairs), rel=1e-5
    )


def test_pair_logsumexp_without_positives_is_zero_with_zero_gradient() -> None:
    similarity = torch.randn(3, 6, requires_grad=True)
    some, none = torch.ones(1, 6, dtype=torch.bool), torch.zeros(1, 6, dtype=torch.bool)
    loss = pair_logsumexp(100 * similarity, torch.cat([none, some, none]), torch.cat([some, none, none]))
    assert loss.tolist() == [0, 0, 0]
    loss.sum().backward()
    assert similarity.grad is not None
    assert (similarity.grad == 0).all()


def test_cosine_aux_takes_all_positives_and_ten_negatives_each() -> None:
    candidates = torch.randn(40, 8)
    keys = candidates[:2] * 3
    positive = torch.zeros(2, 40, dtype=torch.bool)
    positive[0, :2] = True  # 20 negatives are drawn
    positive[1, 0:4] = True  # 40 wanted, all 30 taken
    negative = torch.zeros(2, 40, dtype=torch.bool)
    negative[:, 10:] = True
    loss = cosine_aux(keys, candidates, positive, negative, random.Random(5).sample)

    draw = random.Random(5)
    for row, size in enumerate((20, 30)):
        drawn = [10 + place for place in draw.sample(range(30), size)]
        chosen = positive[row].nonzero()[:, 0].tolist()
        errors = [
            (torch.cosine_similarity(keys[row], candidates[place], dim=0) - int(place in chosen)) ** 2
            for place in chosen + drawn
        ]
        torch.testing.assert_close(loss[row], torch.stack(errors).mean())


def test_cosine_aux_without_positives_still_pushes_ten_negatives_away() -> None:
    keys, candidates = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0]]).repeat(50, 1)
    everywhere = torch.ones(1, 50, dtype=torch.bool)
    loss = cosine_aux(keys, candidates, ~everywhere, everywhere, random.Random(0).sample)
    assert loss.item() == pytest.approx(0.5)  # cosine 1/sqrt(2), target 0
    assert cosine_aux(keys, candidates, ~everywhere, ~everywhere, random.Random(0).sample).item() == 0


def test_cosine_aux_counts_a_candidate_that_is_both_twice() -> None:
    everywhere = torch.ones(1, 1, dtype=torch.bool)
    loss = cosine_aux(
        torch.tensor([[1.0, 0.0]]),
        torch.tensor([[0.6, 0.8]]),
        everywhere,
        everywhere,
        random.Random(0).sample,
    )
    assert loss.item() == pytest.approx((0.4**2 + 0.6**2) / 2)


def test_stride4_picks_the_third_pixel_of_each_cell() -> None:
    masks = torch.arange(64).reshape(1, 8, 8)
    assert stride4(masks).tolist() == [[[18, 22], [50, 54]]]


def test_the_normaliser_is_the_mean_over_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert mean_over_ranks(7, torch.device("cpu")).item() == 7
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda own: own.add_(4))  # the other rank has 4
    assert mean_over_ranks(7, torch.device("cpu")).item() == 5.5


def test_quality_focal_fades_with_the_error() -> None:
    p = sigmoid(0.4)
    good = abs(0.7 - p) * -(0.7 * math.log(p) + 0.3 * math.log(1 - p))
    nothing = p**2 * -math.log(1 - p)
    found = quality_focal(torch.tensor([0.4, 0.4]), torch.tensor([0.7, 0.0]))
    torch.testing.assert_close(found, torch.tensor([good, nothing]))


def test_mask_quality_is_the_overlap_of_what_would_be_reported() -> None:
    logits = torch.tensor([[3.0, 0.1, -0.1, -3.0], [-1.0, -1.0, -1.0, -1.0]])
    truth = torch.tensor([[1.0, 0.5, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(mask_quality(logits, truth), torch.tensor([1.5 / 2.5, 0.0]))
