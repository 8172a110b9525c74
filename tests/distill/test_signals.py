"""Each signal against its formula on small hand-made numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from distill.scene import knowledge, mean, pairs, signal
from ookd.config import Signal
from ookd.distill.knowledge import Widths
from ookd.distill.signals import SIGNALS, unlike
from ookd.distill.task import factor
from ookd.errors import UserError
from ookd.structures import Asked, FrameQueries

EMBED = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.6, 0.8]]])
FEATURES = torch.tensor([[[2.0, 0.0], [0.0, 5.0], [9.0, 9.0]]])
ALL = pairs([0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 0, 1], [1.0] * 4)  # two instances in two frames


def test_embedding_is_one_minus_the_cosine_weighted_by_trust() -> None:
    k = knowledge(EMBED, FEATURES, pairs([0, 1], [0, 1], [0, 1], [1.0, 0.5]))
    expected = (1.0 * (1 - 1.0) + 0.5 * (1 - 0.8)) / 1.5
    assert mean("embedding", k) == pytest.approx(expected, abs=1e-6)


def test_relation_follows_its_two_parts() -> None:
    """Own-key cross-entropy, and KL between the similarities across frames."""
    tau = 3.0
    k = knowledge(EMBED, FEATURES, ALL, tau)
    e = [EMBED[0, 0], EMBED[0, 1], EMBED[1, 0], EMBED[1, 1]]
    f = [F.normalize(FEATURES[0, q], dim=0) for q in (0, 1, 0, 1)]
    total = 0.0
    for i, own in enumerate((0, 1, 0, 1)):
        keys = torch.stack([tau * e[i] @ f[0], tau * e[i] @ f[1]])
        total += -keys.log_softmax(0)[own].item()
        other = [2, 3] if i < 2 else [0, 1]
        mine = torch.stack([tau * e[i] @ e[j] for j in other]).log_softmax(0)
        theirs = torch.stack([tau * f[i] @ f[j] for j in other]).log_softmax(0)
        total += (theirs.exp() * (theirs - mine)).sum().item()
    assert mean("relation", k) == pytest.approx(total / 4, abs=1e-5)


def test_key_is_picked_among_the_instances_of_all_clips() -> None:
    """Clip 0 has two instances, clip 1 one, seen in its second frame by query 1."""
    tau = 3.0
    embed = torch.cat([EMBED, EMBED])
    features = torch.tensor([[[2.0, 0.0], [0.0, 5.0]], [[0.0, 0.0], [-3.0, 0.0]]])
    where = pairs([0, 0, 1, 3], [0, 1, 0, 1], [0, 1, 0, 1], [1.0] * 4, [0, 0, 0, 1])
    keys = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    total = 0.0
    for e, own in ((EMBED[0, 0], 0), (EMBED[0, 1], 1), (EMBED[1, 0], 0), (EMBED[1, 1], 2)):
        total += -(tau * keys @ e).log_softmax(0)[own].item()
    assert mean("key", knowledge(embed, features, where, tau)) == pytest.approx(total / 4, abs=1e-5)


def test_soft_association_asks_among_all_queries_of_the_other_frame() -> None:
    """Three queries a frame; the third is of no instance and lies elsewhere: it should get nothing.

    The teacher's views of the two instances differ between the frames.
    """
    tau = 2.0
    embed = torch.cat([EMBED, torch.tensor([[[-0.6, 0.8]], [[0.8, -0.6]]])], 1)
    views = torch.tensor([[[[2.0, 0.0], [0.0, 5.0]], [[0.8, 0.6], [0.0, 1.0]]]])
    drawn = torch.full((2, 3, 4, 4), -9.0)
    k = knowledge(embed, FEATURES[:, :2], ALL, tau, views, drawn)
    g = F.normalize(views[0], dim=-1)
    total = 0.0
    for frame in (0, 1):
        for i in (0, 1):
            theirs = (tau * g[1 - frame] @ g[frame, i]).softmax(0)
            mine = (tau * embed[1 - frame] @ embed[frame, i]).log_softmax(0)
            total += (theirs * (theirs.log() - mine[:2])).sum().item()
    assert mean("soft_association", k) == pytest.approx(total / 4, abs=1e-5)


def test_soft_association_leaves_out_a_query_that_lies_on_the_instance_without_being_its_pair() -> None:
    """As above, but the third query of each frame covers what the teacher says of instance 1 there."""
    embed = torch.cat([EMBED, torch.tensor([[[-0.6, 0.8]], [[0.8, -0.6]]])], 1)
    drawn = torch.full((2, 3, 4, 4), -9.0)
    drawn[:, 2] = 9.0
    tubes = torch.full((1, 3, 2, 4, 4), -9.0)
    tubes[:, 1] = 9.0
    only = pairs([0, 1], [1, 1], [1, 1], [1.0, 1.0])
    k = knowledge(embed, FEATURES, only, 2.0, None, drawn, tubes)
    e = embed.clone()
    total = 0.0
    for frame in (0, 1):  # one instance: all of it belongs to its own query, against query 0
        total += -(2.0 * e[1 - frame, :2] @ e[frame, 1]).log_softmax(0)[1].item()
    assert mean("soft_association", k) == pytest.approx(total / 2, abs=1e-5)


def test_soft_association_is_not_asked_where_the_other_frame_does_not_show_the_instance() -> None:
    only = pairs([0, 1], [0, 1], [0, 1], [1.0, 1.0])
    total, weight = signal("soft_association")(knowledge(EMBED, FEATURES, only))
    assert total.item() == 0
    assert weight.item() in (0, 2)


def test_class_compares_only_classes_both_know() -> None:
    k = knowledge(EMBED, FEATURES, pairs([0], [0], [0], [1.0]))
    assert mean("class", k) == pytest.approx(math.log(2), abs=1e-6)  # student logit 0, for one class


def test_mask_compares_the_right_frame_and_queries() -> None:
    """Student logits are 0: log 2 in each of 16 cells; the teacher's query 1 says sigmoid(3) everywhere."""
    k = knowledge(EMBED, FEATURES, pairs([1, 0], [1, 1], [1, 0], [1.0, 1.0]))
    p = 1 / (1 + math.exp(-3))
    overlap = 1 - (2 * 16 * 0.5 * p + 1) / (16 * 0.5 + 16 * p + 1)
    entropy = 16 * math.log(2) / (2 * 16 * p + 16)  # relative to the area
    assert mean("mask", k) == pytest.approx(entropy + overlap, abs=1e-5)


def test_unlike_is_one_minus_the_weighted_correlation_of_each_channel() -> None:
    torch.manual_seed(0)
    mine, theirs, count = torch.randn(40, 3), torch.randn(40, 3), torch.randint(1, 4, (40,))
    a, b = (x.repeat_interleave(count, 0).numpy() for x in (mine, theirs))
    expected = np.mean([1 - np.corrcoef(a[:, c], b[:, c])[0, 1] for c in range(3)])
    assert unlike(mine, theirs, count.float()).item() == pytest.approx(expected, abs=1e-3)
    assert unlike(mine, 5 - 3 * mine, count.float()).item() == pytest.approx(2, abs=1e-3)


def test_pixels_compare_the_maps_of_the_student_s_frames_where_there_is_an_image() -> None:
    """Two clips of the student's batch, of which this is about the second; the right half is padding."""
    torch.manual_seed(0)
    k = knowledge(EMBED, FEATURES, ALL)
    k.told.clips = torch.tensor([1])
    k.pad = torch.zeros(4, 16, 16, dtype=torch.bool)
    k.pad[:, :, 8:] = True
    mine = torch.randn(4, 2, 4, 4)
    theirs = mine[2:].clone()
    theirs[..., 2:] = torch.randn(2, 2, 4, 2)
    k.answer.maps, k.told.maps = [mine], [3 * theirs + 1]
    assert mean("pixels", k) == pytest.approx(0, abs=1e-3)
    k.told.maps = [theirs.flip(0)]
    assert mean("pixels", k) > 0.1


def test_shared_asks_the_teacher_the_student_s_questions_in_the_same_frames() -> None:
    """Another query order is noticed; what the teacher is not sure of is not."""
    torch.manual_seed(0)
    layers = [torch.randn(2, 30, 2) for _ in range(3)]
    embed = torch.randn(2, 30, 2)
    places, between = torch.rand(2, 30, 2), torch.zeros(1, 30, 30)
    k = knowledge(embed, FEATURES, ALL)
    k.answer.asked = Asked(places, between, layers)
    logits = torch.full((2, 30, 2), 3.0)
    asked = []

    def probe(where: Tensor, hidden: Tensor | None) -> FrameQueries:
        asked.append((where, hidden))
        theirs = [2 * x + 1 for x in layers]
        for x in theirs:
            x[:, 20:] = torch.randn(2, 10, 2)
        answer = FrameQueries(logits, None, 3 * embed, theirs[-1], lambda select: select)
        answer.asked = Asked(where, hidden, theirs)
        return answer

    k.told.probe = probe
    assert mean("shared", k) > 0.05
    logits[:, 20:] = -30.0
    assert mean("shared", k) == pytest.approx(0, abs=1e-3)
    assert all(where.equal(places) and hidden is between for where, hidden in asked)
    k.answer.embed = embed.flip(1)
    assert mean("shared", k) > 0.1


def test_pixels_need_maps_on_both_sides() -> None:
    with pytest.raises(UserError, match="no maps"):
        SIGNALS["pixels"](Widths(2, [], [2], (2, 2), None))


def test_shared_needs_a_teacher_that_can_be_asked_so() -> None:
    with pytest.raises(UserError, match="cannot be asked"):
        SIGNALS["shared"](Widths(2, [2], [2], (2, 2), None))


@pytest.mark.parametrize("name", [name for name in SIGNALS if name not in ("pixels", "shared")])
def test_without_pairs_a_signal_is_zero_and_its_gradient_finite(name: str) -> None:
    embed = EMBED.clone().requires_grad_()
    total, weight = signal(name)(knowledge(embed, FEATURES, pairs([], [], [], [])))
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
        total, weight = one(knowledge(embed, FEATURES, ALL, 5.0))
        before = (total / weight).item() if before is None else before
        (total / weight).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            assert embed.grad is not None
            embed -= 0.3 * embed.grad
            embed.grad = None
    assert (total / weight).item() < 0.5 * before  # type: ignore[operator]


def test_schedule_rises_stays_and_falls() -> None:
    spec = Signal(weight=1, warmup=4, until=20, decay=5)
    assert [round(factor(spec, step).item(), 3) for step in (0, 1, 3, 10, 15, 17, 19, 20, 30)] == [
        0.25, 0.5, 1.0, 1.0, 1.0, 0.6, 0.2, 0.0, 0.0,
    ]  # fmt: skip
    assert factor(Signal(weight=1), 0).item() == 1
