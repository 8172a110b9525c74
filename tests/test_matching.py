"""Assignments: optimal where optimality is asked, identical to the reference programs where exactness is."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from conftest import golden_cases
from ookd.matching import contrast_sets, focal_cost, hungarian, match_frame, match_tubes


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


def test_focal_cost_is_the_difference_a_claim_makes() -> None:
    p = torch.tensor([[0.9, 0.2]], dtype=torch.float64)
    cost = focal_cost(p.logit(), torch.tensor([1, 0, 1]))
    low = 0.25 * 0.8**2 * -np.log(0.2) - 0.75 * 0.2**2 * -np.log(0.8)
    high = 0.25 * 0.1**2 * -np.log(0.9) - 0.75 * 0.9**2 * -np.log(0.1)
    assert cost.tolist()[0] == pytest.approx([low, high, low], rel=1e-5)


# --- several queries an instance ---------------------------------------------------------------------------


def scene(centres: list[tuple[float, float]], size: float = 0.2) -> Tensor:
    return torch.tensor([[x, y, size, size] for x, y in centres])


def test_good_boxes_earn_an_instance_more_queries() -> None:
    boxes = scene([(0.3, 0.3)] * 4 + [(0.7, 0.7)] * 2 + [(0.1, 0.9)])
    match, best = match_frame(torch.zeros(7, 2), boxes, torch.tensor([0, 1]), scene([(0.3, 0.3), (0.7, 0.7)]))
    assert match.query.tolist() == [0, 1, 2, 3, 4, 5]  # exact boxes: the overlaps sum to 4 and 2
    assert match.instance.tolist() == [0, 0, 0, 0, 1, 1]
    assert best.tolist() == [0, 4]


def test_the_class_decides_between_equal_boxes() -> None:
    logits = torch.tensor([[-2.0, -2.0], [-2.0, 3.0], [3.0, -2.0]])
    same = scene([(0.5, 0.5)] * 3, size=0.5)
    _, best = match_frame(logits, same, torch.tensor([1]), same[:1])
    assert best.tolist() == [1]


def test_an_instance_that_nothing_overlaps_gets_one_query() -> None:
    match, best = match_frame(
        torch.zeros(5, 1), scene([(0.1, 0.1)] * 5, 0.05), torch.tensor([0]), scene([(0.9, 0.9)])
    )
    assert len(match.query) == 1
    assert best.tolist() == match.query.tolist()


def test_crowded_twins_share_the_queries_and_none_is_forgotten() -> None:
    boxes = scene([(0.5, 0.5), (0.5, 0.5), (0.1, 0.1), (0.9, 0.9)])
    twins = scene([(0.5, 0.5), (0.5, 0.5)])
    match, best = match_frame(torch.zeros(4, 1), boxes, torch.tensor([0, 0]), twins)
    # Both want queries 0 and 1; the first instance wins the tie, the second takes the cheapest free query.
    assert match.query.tolist() == [0, 1, 2]
    assert match.instance.tolist() == [0, 0, 1]
    assert best.tolist() == [0, 2]


@pytest.mark.parametrize("queries", [1, 3, 9, 50, 300])
@pytest.mark.parametrize("instances", [0, 1, 20, 1000])
def test_any_number_of_queries_and_instances(queries: int, instances: int) -> None:
    random = torch.Generator().manual_seed(queries + instances)
    logits = torch.randn(queries, 7, generator=random)
    boxes = torch.rand(queries, 4, generator=random) * 0.5 + 0.25
    targets = torch.rand(instances, 4, generator=random) * 0.5 + 0.25
    labels = torch.randint(7, (instances,), generator=random)
    match, best = match_frame(logits, boxes, labels, targets)
    assert (match.query.diff() > 0).all()  # ascending, each once
    assert best.shape == (instances,)
    if instances:
        assert 1 <= len(match.query) <= queries
        assert match.instance.max() < instances
    positive, negative = contrast_sets(logits, boxes, labels, targets)
    assert positive.shape == negative.shape == (instances, queries)
    if queries >= 300 and 0 < instances <= 20:
        assert positive.any(1).all()
        assert negative.any(1).all()


def test_half_precision_matches_like_the_same_numbers_in_full() -> None:
    logits, boxes = torch.randn(60, 3).bfloat16(), (torch.rand(60, 4) * 0.5 + 0.2).bfloat16()
    labels, targets = torch.tensor([0, 1, 2]), torch.rand(3, 4) * 0.5 + 0.2
    half, full = (
        match_frame(x, b, labels, targets) for x, b in ((logits, boxes), (logits.float(), boxes.float()))
    )
    assert torch.equal(half[0].query, full[0].query)
    assert torch.equal(half[1], full[1])


def test_a_diverged_model_is_matched_somehow_and_reported_by_its_loss() -> None:
    nothing, boxes = torch.full((20, 3), torch.nan), torch.full((20, 4), torch.nan)
    targets = scene([(0.2, 0.2), (0.6, 0.6), (0.7, 0.3)])
    match, best = match_frame(nothing, boxes, torch.tensor([0, 1, 2]), targets)
    assert len(match.query) > 0
    assert len(best) == 3
    assert len(match_tubes(nothing, boxes[None], torch.tensor([0, 1, 2]), targets[:, None]).query) == 3


GOLDEN = [
    pytest.param(path, case, id=f"{path.stem}-{case}")
    for path in golden_cases("idol_matcher_cases*.npz")
    for case in sorted({name.split(".")[0] for name in np.load(path).files}, key=lambda name: int(name[1:]))
]


@pytest.mark.parametrize(("path", "case"), GOLDEN)
def test_frames_match_as_in_the_released_idol(path: Path, case: str) -> None:
    with np.load(path) as file:
        values = {
            name.removeprefix(f"{case}."): torch.from_numpy(file[name])
            for name in file.files
            if name.startswith(f"{case}.")
        }
    match, best = match_frame(values["logits"], values["boxes"], values["gt_labels"], values["gt_boxes"])
    assert torch.equal(match.query, values["selected"].nonzero()[:, 0])
    assert torch.equal(match.instance, values["gt_of_selected"])
    assert torch.equal(best, values["best_query_per_gt"])

    seen = values["ref_valid"]
    positive, negative = contrast_sets(
        values["logits"], values["boxes"], values["gt_labels"][seen], values["gt_boxes"][seen]
    )
    assert torch.equal(positive, values["ref_pos_masks"][seen])
    assert torch.equal(~negative, values["ref_top100_masks"][seen])


# --- one query a track -------------------------------------------------------------------------------------


def test_a_tube_goes_to_the_query_that_follows_it() -> None:
    steps = torch.linspace(0.2, 0.8, 4)
    right = torch.stack([steps, torch.full((4,), 0.5), torch.full((4,), 0.2), torch.full((4,), 0.2)], -1)
    left = right.flip(0)
    boxes = torch.stack([left, torch.full((4, 4), 0.1), right], 1)  # [T, Q, 4]
    match = match_tubes(torch.zeros(3, 2), boxes, torch.tensor([0, 1]), torch.stack([right, left]))
    assert list(zip(match.query.tolist(), match.instance.tolist(), strict=True)) == [(0, 1), (2, 0)]


def test_tube_cost_is_euclidean_over_the_whole_tube() -> None:
    target = torch.tensor([[[0.5, 0.5, 0.4, 0.4]] * 2])  # [1, T, 4]
    spread = target[0] + 0.05  # both frames off by a little: L1 0.4, Euclidean 0.14
    burst = torch.stack([target[0, 0] + 0.09, target[0, 0]])  # one frame off by more: L1 0.36, Euclidean 0.18
    boxes = torch.stack([burst, spread], 1)
    logits = torch.zeros(2, 1)
    assert match_tubes(logits, boxes, torch.tensor([0]), target).query.tolist() == [1]


def test_never_visible_tracks_and_empty_clips_match() -> None:
    boxes, logits = torch.rand(3, 10, 4), torch.randn(10, 2)
    assert len(match_tubes(logits, boxes, torch.tensor([0]), torch.zeros(1, 3, 4)).query) == 1
    empty = match_tubes(logits, boxes, torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3, 4))
    assert len(empty.query) == len(empty.instance) == 0
