"""Each pair signal against its formula on small hand-made numbers."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from distill.scene import mean, pair_batch, query_pairs, signal
from ookd.distill.pair_signals import PAIR_SIGNALS

EMBED = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.6, 0.8]]])
FEATURES = torch.tensor([[[2.0, 0.0], [0.0, 5.0], [9.0, 9.0]]])
ALL = query_pairs([0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 0, 1], [1.0] * 4)  # two instances in two frames


def test_embedding_is_one_minus_the_cosine_weighted_by_trust() -> None:
    batch = pair_batch(EMBED, FEATURES, query_pairs([0, 1], [0, 1], [0, 1], [1.0, 0.5]))
    expected = (1.0 * (1 - 1.0) + 0.5 * (1 - 0.8)) / 1.5
    assert mean("embedding", batch) == pytest.approx(expected, abs=1e-6)


def test_relation_follows_its_two_parts() -> None:
    """Own-key cross-entropy, and KL between the similarities across frames."""
    tau = 3.0
    batch = pair_batch(EMBED, FEATURES, ALL, tau)
    e = [EMBED[0, 0], EMBED[0, 1], EMBED[1, 0], EMBED[1, 1]]
    f = [F.normalize(FEATURES[0, q], dim=0) for q in (0, 1, 0, 1)]
    total = 0.0
    for i, own in enumerate((0, 1, 0, 1)):
        keys = torch.stack([tau * e[i] @ f[0], tau * e[i] @ f[1]])
        total += -keys.log_softmax(0)[own].item()
        other = [2, 3] if i < 2 else [0, 1]
        student = torch.stack([tau * e[i] @ e[j] for j in other]).log_softmax(0)
        teacher = torch.stack([tau * f[i] @ f[j] for j in other]).log_softmax(0)
        total += (teacher.exp() * (teacher - student)).sum().item()
    assert mean("relation", batch) == pytest.approx(total / 4, abs=1e-5)


def test_key_is_picked_among_the_instances_of_all_clips() -> None:
    """Clip 0 has two instances, clip 1 one, seen in its second frame by query 1."""
    tau = 3.0
    embed = torch.cat([EMBED, EMBED])
    features = torch.tensor([[[2.0, 0.0], [0.0, 5.0]], [[0.0, 0.0], [-3.0, 0.0]]])
    where = query_pairs([0, 0, 1, 3], [0, 1, 0, 1], [0, 1, 0, 1], [1.0] * 4, [0, 0, 0, 1])
    keys = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    total = 0.0
    for e, own in ((EMBED[0, 0], 0), (EMBED[0, 1], 1), (EMBED[1, 0], 0), (EMBED[1, 1], 2)):
        total += -(tau * keys @ e).log_softmax(0)[own].item()
    assert mean("key", pair_batch(embed, features, where, tau)) == pytest.approx(total / 4, abs=1e-5)


def test_soft_association_chooses_among_all_queries_of_the_other_frame() -> None:
    """Three queries a frame. The third stands for no instance and lies elsewhere, so it should get nothing.

    The teacher's features of the two instances differ between the frames.
    """
    tau = 2.0
    embed = torch.cat([EMBED, torch.tensor([[[-0.6, 0.8]], [[0.8, -0.6]]])], 1)
    by_frame = torch.tensor([[[[2.0, 0.0], [0.0, 5.0]], [[0.8, 0.6], [0.0, 1.0]]]])
    drawn = torch.full((2, 3, 4, 4), -9.0)
    batch = pair_batch(embed, FEATURES[:, :2], ALL, tau, by_frame, drawn)
    g = F.normalize(by_frame[0], dim=-1)
    total = 0.0
    for frame in (0, 1):
        for i in (0, 1):
            teacher = (tau * g[1 - frame] @ g[frame, i]).softmax(0)
            student = (tau * embed[1 - frame] @ embed[frame, i]).log_softmax(0)
            total += (teacher * (teacher.log() - student[:2])).sum().item()
    assert mean("soft_association", batch) == pytest.approx(total / 4, abs=1e-5)


def test_soft_association_leaves_out_a_query_that_lies_on_the_instance_without_being_its_pair() -> None:
    """As above, but the third query of each frame covers the teacher's mask of instance 1 there."""
    embed = torch.cat([EMBED, torch.tensor([[[-0.6, 0.8]], [[0.8, -0.6]]])], 1)
    drawn = torch.full((2, 3, 4, 4), -9.0)
    drawn[:, 2] = 9.0
    tubes = torch.full((1, 3, 2, 4, 4), -9.0)
    tubes[:, 1] = 9.0
    pairs = query_pairs([0, 1], [1, 1], [1, 1], [1.0, 1.0])
    batch = pair_batch(embed, FEATURES, pairs, 2.0, None, drawn, tubes)
    e = embed.clone()
    total = 0.0
    for frame in (0, 1):  # one instance: its own query gets all, against query 0
        total += -(2.0 * e[1 - frame, :2] @ e[frame, 1]).log_softmax(0)[1].item()
    assert mean("soft_association", batch) == pytest.approx(total / 2, abs=1e-5)


def test_soft_association_skips_frames_that_do_not_show_the_instance() -> None:
    pairs = query_pairs([0, 1], [0, 1], [0, 1], [1.0, 1.0])
    total, weight = signal("soft_association")(pair_batch(EMBED, FEATURES, pairs))
    assert total.item() == 0
    assert weight.item() in (0, 2)


def test_class_compares_only_classes_both_know() -> None:
    batch = pair_batch(EMBED, FEATURES, query_pairs([0], [0], [0], [1.0]))
    assert mean("class", batch) == pytest.approx(math.log(2), abs=1e-6)  # student logit 0, for one class


def test_mask_compares_the_right_frame_and_queries() -> None:
    """Student logits are 0: log 2 in each of 16 cells; the teacher's query 1 says sigmoid(3) everywhere."""
    batch = pair_batch(EMBED, FEATURES, query_pairs([1, 0], [1, 1], [1, 0], [1.0, 1.0]))
    p = 1 / (1 + math.exp(-3))
    overlap = 1 - (2 * 16 * 0.5 * p + 1) / (16 * 0.5 + 16 * p + 1)
    entropy = 16 * math.log(2) / (2 * 16 * p + 16)  # relative to the area
    assert mean("mask", batch) == pytest.approx(entropy + overlap, abs=1e-5)


@pytest.mark.parametrize("name", PAIR_SIGNALS)
def test_without_pairs_a_signal_is_zero_and_its_gradient_finite(name: str) -> None:
    embed = EMBED.clone().requires_grad_()
    total, weight = signal(name)(pair_batch(embed, FEATURES, query_pairs([], [], [], [])))
    assert total.item() == weight.item() == 0
    if total.requires_grad:
        total.backward()  # type: ignore[no-untyped-call]
    assert embed.grad is None or torch.isfinite(embed.grad).all()


@pytest.mark.parametrize("name", ["embedding", "relation", "key", "soft_association"])
def test_an_association_signal_falls_when_the_student_follows_it(name: str) -> None:
    torch.manual_seed(0)
    embed = torch.randn(2, 3, 2, requires_grad=True)
    one = signal(name)
    before = None
    for _ in range(60):
        total, weight = one(pair_batch(embed, FEATURES, ALL, 5.0))
        before = (total / weight).item() if before is None else before
        (total / weight).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            assert embed.grad is not None
            embed -= 0.3 * embed.grad
            embed.grad = None
    assert (total / weight).item() < 0.5 * before  # type: ignore[operator]
