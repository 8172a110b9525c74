"""Assignments: optimal where optimality is asked, identical to the reference programs where exactness is."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from ookd.matching import hungarian


@pytest.mark.parametrize(("queries", "instances"), [(6, 3), (3, 5), (4, 4)])
def test_hungarian_is_the_cheapest_of_all_assignments(queries: int, instances: int) -> None:
    cost = torch.randn(queries, instances, generator=torch.Generator().manual_seed(queries))
    match = hungarian(cost)
    size = min(queries, instances)
    assert len(match.query) == len(set(match.query.tolist())) == len(set(match.instance.tolist())) == size
    tall = cost if queries >= instances else cost.T
    cheapest = min(
        sum(tall[row, column].item() for column, row in enumerate(rows))
        for rows in permutations(range(tall.shape[0]), size)
    )
    assert cost[match.query, match.instance].sum().item() == pytest.approx(cheapest, rel=1e-6)


@pytest.mark.parametrize("shape", [(0, 0), (5, 0), (0, 5)])
def test_hungarian_of_nothing_is_nothing(shape: tuple[int, int]) -> None:
    match = hungarian(torch.zeros(shape))
    assert len(match.query) == len(match.instance) == 0


def test_hungarian_survives_numbers_that_are_none() -> None:
    cost = torch.tensor([[float("nan"), 1.0], [0.0, float("nan")], [float("inf"), -float("inf")]])
    match = hungarian(cost)
    assert list(zip(match.query.tolist(), match.instance.tolist(), strict=True)) == [(1, 0), (2, 1)]
