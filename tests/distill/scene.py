"""Batches for signals, made by hand."""

from __future__ import annotations

import torch
from torch import Tensor

from ookd.distill.pair_signals import PAIR_SIGNALS, PairBatch, PairSignal
from ookd.distill.qfa import QueryPairs
from ookd.structures import ClipQueries, FrameQueries


def signal(name: str, width: int = 2) -> PairSignal:
    """A signal between spaces of one width, its maps the identity."""
    return PAIR_SIGNALS[name](width, width)


def mean(name: str, batch: PairBatch) -> float:
    total, weight = signal(name)(batch)
    return (total / weight).item()


def query_pairs(
    frame: list[int],
    teacher: list[int],
    student: list[int],
    weight: list[float],
    clip: list[int] | None = None,
) -> QueryPairs:
    """The teacher saw the student's frames only, of which every clip has two."""
    where = torch.tensor(frame, dtype=torch.long)
    return QueryPairs(
        torch.tensor(clip or [0] * len(frame), dtype=torch.long),
        where,
        where % 2,
        torch.tensor(teacher, dtype=torch.long),
        torch.tensor(student, dtype=torch.long),
        torch.tensor(weight),
    )


def pair_batch(
    embed: Tensor,
    features: Tensor,
    pairs: QueryPairs,
    temperature: float = 1.0,
    frame_features: Tensor | None = None,
    student_masks: Tensor | None = None,
    teacher_masks: Tensor | None = None,
) -> PairBatch:
    """Student embeddings [F, R, E], clip features [n, Q, E], frame features [n, 2, Q, E]; masks [F, R, 4, 4]
    and [n, Q, 2, 4, 4].
    """
    clips = len(features)
    if frame_features is None:
        frame_features = features.unsqueeze(1).expand(-1, 2, -1, -1)
    if teacher_masks is None:
        teacher_masks = torch.zeros(clips, features.shape[1], 2, 4, 4)
        teacher_masks[:, 1] = 3.0
    if student_masks is None:
        student_masks = torch.zeros(*embed.shape[:2], 4, 4, requires_grad=True)

    def chosen(masks: Tensor, select: Tensor) -> Tensor:
        return masks[torch.arange(len(masks)).unsqueeze(1), select]

    drawn, tubes = student_masks, teacher_masks
    student = FrameQueries(
        torch.zeros(*embed.shape[:2], 2), None, embed, embed, lambda select: chosen(drawn, select)
    )
    logits = torch.tensor([[0.8, 0.1]]).logit().expand(clips, features.shape[1], 2)
    teacher = ClipQueries(logits, None, features, frame_features, lambda select: chosen(tubes, select))
    return PairBatch(
        pairs,
        teacher,
        student,
        features[pairs.clip, pairs.teacher],
        frame_features[pairs.clip, pairs.place, pairs.teacher],
        torch.tensor([True, False]),
        temperature,
    )
