"""Who claims what, who is born where, and where things should be: plain arithmetic of track slots."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from ookd.models.compact.slot_noise import SlotNoise
from ookd.models.compact.slots import TrackSlots, claim, distinct, give_births
from ookd.tracking.select import mask_iou, suppress


def free(slots: int) -> TrackSlots:
    return TrackSlots.free(1, slots, 4, 4, torch.zeros(1))


def greedy(margin: Tensor) -> dict[int, int]:
    """The largest margin first, one pair after the other."""
    left, pairs = margin.clone(), {}
    while left.max() > 0:
        slot, query = divmod(int(left.argmax()), left.shape[1])
        pairs[slot] = query
        left[slot], left[:, query] = -1, -1
    return pairs


@pytest.mark.parametrize("seed", range(20))
def test_the_largest_margins_claim_first(seed: int) -> None:
    margin = torch.randn(1, 5, 7, generator=torch.Generator().manual_seed(seed))
    query, claims = claim(margin)
    found = {s: int(query[0, s]) for s in range(5) if claims[0, s]}
    assert found == greedy(margin[0])


def test_nothing_is_claimed_without_a_margin() -> None:
    assert not claim(torch.full((2, 3, 4), -1.0))[1].any()
    assert not claim(torch.full((2, 3, 4), -torch.inf))[1].any()


def test_births_take_free_slots_first_and_then_the_longest_unseen() -> None:
    slots = replace(
        free(4),
        seen=torch.tensor([[3.0, 0.0, 2.0, 9.0]]),
        unseen=torch.tensor([[5.0, 0.0, 0.0, 7.0]]),
        begun=torch.tensor([10.0]),
    )
    busy = torch.tensor([[False, False, True, False]])
    worth = torch.tensor([[0.3, 0.0, 0.9, 0.5, 0.4]])
    query, born, number = give_births(worth, slots, busy)
    assert born.tolist() == [[True, True, False, True]]
    assert query[0, [1, 3, 0]].tolist() == [2, 3, 4]  # the best goes first; the weakest finds no room
    assert number[0, [1, 3, 0]].tolist() == [10, 11, 12]


@pytest.mark.parametrize("seed", range(10))
def test_copies_are_those_that_greedy_suppression_removes(seed: int) -> None:
    random = np.random.default_rng(seed)
    masks = np.zeros((12, 8, 8), bool)
    for mask in masks:
        y, x = random.integers(0, 4, 2)
        mask[y : y + 4, x : x + 4] = True
    score = torch.from_numpy(random.random(12)).float().sort(descending=True).values
    kept = distinct(torch.from_numpy(masks).float().flatten(1)[None], score[None], 0.5)
    assert kept[0].nonzero()[:, 0].tolist() == suppress(mask_iou(masks), 0.5).tolist()


def test_a_steady_movement_is_foreseen_also_while_nothing_is_seen() -> None:
    one, step = torch.ones(1), torch.tensor([0.1, -0.05, 0.0])
    there, away = torch.tensor([[True]]), torch.tensor([[False]])
    start = torch.tensor([[[0.2, 0.8, 0.3]]])
    slots = replace(free(1), place=start, seen=torch.ones(1, 1))
    for t in range(1, 4):
        expected = slots.expected(one)
        slots = slots.moved(expected, start + t * step, there, one)
    torch.testing.assert_close(slots.expected(one), start + 4 * step)
    torch.testing.assert_close(slots.expected(2 * one), start + 5 * step)
    hidden = slots.moved(slots.expected(one), start, away, one)
    torch.testing.assert_close(hidden.place, start + 4 * step)
    torch.testing.assert_close(hidden.velocity, slots.velocity / 2)
    assert hidden.unseen.item() == 1


def test_noise_drops_swaps_and_disturbs_as_often_as_it_says() -> None:
    chance = torch.rand(400, 10, 2, generator=torch.Generator().manual_seed(0))
    query, all_claim = torch.arange(10).expand(400, -1), torch.ones(400, 10, dtype=torch.bool)
    noise = SlotNoise(drop=0.2, swap=0.1, blur=0.3)
    changed, claims = noise.claims(query, all_claim, chance)
    assert (~claims).float().mean().item() == pytest.approx(0.2, abs=0.03)
    swapped = changed != query
    assert swapped.float().mean().item() == pytest.approx(0.1 * 0.8**2, abs=0.02)
    assert torch.equal(changed.sort(1).values, query)  # no query is held twice
    slots = TrackSlots.free(400, 10, 4, 4, torch.zeros(1))
    disturbed = noise.memory(slots, torch.rand(400, 10, 9, generator=torch.Generator().manual_seed(1)))
    share = (disturbed.query != 0).any(2).float().mean().item()
    assert share == pytest.approx(0.3, abs=0.03)
