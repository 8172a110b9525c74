"""Each signal against its formula on small hand-made numbers."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ookd.config import Signal
from ookd.distill.qfa import Pairs
from ookd.distill.signals import SIGNALS, Bridge, Knowledge
from ookd.distill.task import factor
from ookd.structures import ClipQueries, FrameQueries


def knowledge(embed: Tensor, features: Tensor, pairs: Pairs, temperature: float = 1.0) -> Knowledge:
    """Student embeddings [F, R, E], teacher features [1, Q, E]; the bridge is the identity."""
    width = embed.shape[-1]
    bridge = Bridge(width, width)
    for layer in (bridge.to_teacher, bridge.to_student):
        torch.nn.init.eye_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    masks = torch.zeros(1, features.shape[1], 2, 4, 4)
    masks[0, 1] = 3.0
    drawn = torch.zeros(embed.shape[0], embed.shape[1], 4, 4, requires_grad=True)
    student = FrameQueries(
        torch.zeros(*embed.shape[:2], 2),
        None,
        embed,
        embed,
        lambda select: drawn[torch.arange(len(drawn)).unsqueeze(1), select],
    )
    logits = torch.tensor([[0.8, 0.1]]).logit().expand(1, features.shape[1], 2)
    teacher = ClipQueries(logits, None, features, features, lambda select: masks[:, select[0]])
    return Knowledge(pairs, teacher, student, torch.tensor([True, False]), bridge, temperature)


def pairs(frame: list[int], teacher: list[int], student: list[int], weight: list[float]) -> Pairs:
    zeros = torch.zeros(len(frame), dtype=torch.long)
    return Pairs(
        zeros, torch.tensor(frame), torch.tensor(frame), torch.tensor(teacher), torch.tensor(student),
        torch.tensor(weight),
    )  # fmt: skip


NO_PAIRS = pairs([], [], [], [])
NO_PAIRS = Pairs(
    *(getattr(NO_PAIRS, name).long() for name in ("clip", "frame", "place", "teacher", "student")),
    torch.zeros(0),
)
EMBED = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.6, 0.8]]])
FEATURES = torch.tensor([[[2.0, 0.0], [0.0, 5.0], [9.0, 9.0]]])


def test_embedding_is_one_minus_the_cosine_weighted_by_trust() -> None:
    k = knowledge(EMBED, FEATURES, pairs([0, 1], [0, 1], [0, 1], [1.0, 0.5]))
    expected = (1.0 * (1 - 1.0) + 0.5 * (1 - 0.8)) / 1.5
    assert SIGNALS["embedding"](k).item() == pytest.approx(expected, abs=1e-6)


def test_relation_follows_its_two_parts() -> None:
    """Two instances in two frames. Own-key cross-entropy, and KL between the similarities across frames."""
    tau = 3.0
    k = knowledge(EMBED, FEATURES, pairs([0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 0, 1], [1.0] * 4), tau)
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
    assert SIGNALS["relation"](k).item() == pytest.approx(total / 4, abs=1e-5)


def test_class_compares_only_classes_both_know() -> None:
    k = knowledge(EMBED, FEATURES, pairs([0], [0], [0], [1.0]))
    assert SIGNALS["class"](k).item() == pytest.approx(
        math.log(2), abs=1e-6
    )  # student logit 0, for one class


def test_mask_compares_the_right_frame_and_queries() -> None:
    """Student logits are 0: entropy log 2; the teacher's query 1 says sigmoid(3) everywhere."""
    k = knowledge(EMBED, FEATURES, pairs([1, 0], [1, 1], [1, 0], [1.0, 1.0]))
    p = 1 / (1 + math.exp(-3))
    overlap = 1 - (2 * 16 * 0.5 * p + 1) / (16 * 0.5 + 16 * p + 1)
    assert SIGNALS["mask"](k).item() == pytest.approx(math.log(2) + overlap, abs=1e-5)


@pytest.mark.parametrize("name", SIGNALS)
def test_without_pairs_a_signal_is_zero_and_its_gradient_finite(name: str) -> None:
    embed = EMBED.clone().requires_grad_()
    value = SIGNALS[name](knowledge(embed, FEATURES, NO_PAIRS))
    assert value.item() == 0
    if value.requires_grad:
        value.backward()  # type: ignore[no-untyped-call]
    assert embed.grad is None or torch.isfinite(embed.grad).all()


def test_schedule_rises_stays_and_falls() -> None:
    signal = Signal(weight=1, warmup=4, until=20, decay=5)
    assert [round(factor(signal, step).item(), 3) for step in (0, 1, 3, 10, 15, 17, 19, 20, 30)] == [
        0.25, 0.5, 1.0, 1.0, 1.0, 0.6, 0.2, 0.0, 0.0,
    ]  # fmt: skip
    assert factor(Signal(weight=1), 0).item() == 1
