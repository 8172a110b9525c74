"""What is transferred over pairs of queries that stand for the same instance.

A pair signal is a module that maps a `PairBatch` to a weighted sum and the sum of the weights. It owns the
learned maps that it needs between the two models' spaces; they are used in training only. To add one, write a
class and name it in `PAIR_SIGNALS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ookd.distill.qfa import QueryPairs, tube_iou
from ookd.losses import dice, mask_bce
from ookd.structures import ClipQueries, FrameQueries

AMBIGUOUS = 0.5  # overlap with an instance from which an unpaired query is neither it nor something else


@dataclass(slots=True)
class PairBatch:
    """Everything a pair signal may look at: P pairs, n clips of the teacher, F frames of the student.

    The teacher's side has no gradient.
    """

    pairs: QueryPairs
    teacher: ClipQueries  # n clips
    student: FrameQueries  # F frames
    features: Tensor  # [P, D] what is known of the instance in the whole clip
    frame_features: Tensor  # [P, D] and in the pair's frame
    known: Tensor  # [K] bool: classes that the teacher knows too
    temperature: float  # cosines are multiplied by it, as in the tracker

    def weighted(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """[P] values of the pairs: their sum, weighted by trust, and the sum of the trust."""
        return (values * self.pairs.weight).sum(), self.pairs.weight.sum()

    def zero(self) -> tuple[Tensor, Tensor]:
        """The answer of a signal that finds no pairs."""
        return self.student.embed.sum() * 0, self.pairs.weight.sum()

    def embeddings(self) -> Tensor:
        """[P, E] the student's embeddings, scaled to length one."""
        return F.normalize(self.student.embed[self.pairs.frame, self.pairs.student].float(), dim=-1)

    def same_clip(self) -> Tensor:
        """[P, P] whether two pairs belong to the same clip."""
        return self.pairs.clip.unsqueeze(1) == self.pairs.clip

    def same_instance(self) -> Tensor:
        """[P, P] whether two pairs are the same instance."""
        return self.same_clip() & (self.pairs.teacher.unsqueeze(1) == self.pairs.teacher)

    def other_frame(self) -> Tensor:
        """[P, P] whether two pairs are in different frames of the same clip."""
        return self.same_clip() & (self.pairs.frame.unsqueeze(1) != self.pairs.frame)

    def student_masks(self) -> Tensor:
        """[P, h, w] logits in the pair's frame."""
        student = self.student
        return _select_masks(student.masks, self.pairs.frame, self.pairs.student, len(student.logits))

    def teacher_masks(self, size: torch.Size) -> Tensor:
        """[P, *size] probabilities in the pair's frame."""
        teacher = self.teacher
        tubes = _select_masks(teacher.masks, self.pairs.clip, self.pairs.teacher, len(teacher.logits))
        shown = tubes[torch.arange(len(tubes), device=tubes.device), self.pairs.place].float().sigmoid()
        return F.interpolate(shown.unsqueeze(1), size, mode="bilinear").squeeze(1)


class PairSignal(nn.Module):
    def __init__(self, features: int, embedding: int) -> None:
        """Takes the channels of the features of an instance and of the student's embeddings."""
        super().__init__()

    def forward(self, batch: PairBatch) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


class EmbeddingSignal(PairSignal):
    """The student's embedding, mapped, points where the teacher's clip feature does."""

    def __init__(self, features: int, embedding: int) -> None:
        super().__init__(features, embedding)
        self.to_teacher = _identity_map(embedding, features)

    def forward(self, batch: PairBatch) -> tuple[Tensor, Tensor]:
        mapped = self.to_teacher(batch.embeddings()).float()
        return batch.weighted(1 - F.cosine_similarity(mapped, batch.features, dim=-1))


class KeySignal(PairSignal):
    """In the tracker's own space, an embedding must find the mapped clip feature of its instance.

    Each instance has one key. Those of all clips compete.
    """

    def __init__(self, features: int, embedding: int) -> None:
        super().__init__(features, embedding)
        self.to_student = _identity_map(features, embedding)

    def forward(self, batch: PairBatch) -> tuple[Tensor, Tensor]:
        return batch.weighted(self.key_loss(batch, torch.ones_like(batch.same_clip())))

    def key_loss(self, batch: PairBatch, among: Tensor) -> Tensor:
        """[P] cross-entropy of each embedding picking its own key among those that `among` [P, P] allows."""
        keys = F.normalize(self.to_student(batch.features).float(), dim=-1)
        # the first of the pairs that share an instance stands for all of them
        every = torch.arange(len(keys), device=keys.device)
        first = torch.where(batch.same_instance(), every, len(keys)).amin(1) if len(keys) else every
        logits = batch.temperature * batch.embeddings() @ keys.T
        logits = logits.masked_fill(~(among & (first == every)), -torch.inf)
        return F.cross_entropy(logits, first, reduction="none")


class RelationSignal(KeySignal):
    """As `key`, within the clip, and as confusable as the teacher finds the instances.

    Between two frames, the similarities of an embedding to the instances of the other frame follow those of
    the clip features.
    """

    def forward(self, batch: PairBatch) -> tuple[Tensor, Tensor]:
        embeddings, across = batch.embeddings(), batch.other_frame()
        unit = F.normalize(batch.features, dim=-1)
        student = _log_softmax(batch.temperature * embeddings @ embeddings.T, across)
        teacher = _log_softmax(batch.temperature * unit @ unit.T, across)
        divergence = (teacher.exp() * (teacher - student)).masked_fill(~across, 0.0).sum(1)
        return batch.weighted(self.key_loss(batch, batch.same_clip()) + divergence)


class SoftAssociationSignal(PairSignal):
    """The tracker's question: which of *all* queries of another frame is this instance?

    The teacher's answer is spread over the paired queries there, by how similar their features in the frame
    are. All other queries, background and distractors, get nothing, except that an unpaired query which lies
    on the instance is left out. Only frames that show the instance too are compared.
    """

    def forward(self, batch: PairBatch) -> tuple[Tensor, Tensor]:
        pairs = batch.pairs
        # A questions: a pair, and the pair of the same instance in another frame
        asking, other = (batch.other_frame() & batch.same_instance()).nonzero(as_tuple=True)
        if not len(asking):
            return batch.zero()
        there = pairs.frame[other]
        candidates = pairs.frame.unsqueeze(0) == there.unsqueeze(1)  # [A, P] the pairs of that frame
        unit = F.normalize(batch.student.embed.float(), dim=-1)
        logits = batch.temperature * torch.einsum("ae,are->ar", batch.embeddings()[asking], unit[there])
        known = F.normalize(batch.frame_features, dim=-1)
        teacher = _log_softmax(batch.temperature * known[asking] @ known.T, candidates).exp() * candidates
        target = torch.zeros_like(logits).index_add(1, pairs.student, teacher)
        logits = logits.masked_fill(self._ambiguous(batch, asking, other), -1e4)
        divergence = (torch.xlogy(target, target) - target * logits.log_softmax(1)).sum(1)
        weight = pairs.weight[asking]
        return (divergence * weight).sum(), weight.sum()

    @torch.no_grad()
    def _ambiguous(self, batch: PairBatch, asking: Tensor, other: Tensor) -> Tensor:
        """[A, R] unpaired queries of the other frame that lie on the instance."""
        pairs = batch.pairs
        frames, count = batch.student.logits.shape[:2]
        every = torch.arange(count, device=asking.device).expand(frames, -1)
        student = batch.student.masks(every) > 0  # [F, R, h, w]
        teacher = batch.teacher_masks(student.shape[-2:]) > 0.5  # [P, h, w]
        paired = torch.zeros(frames, count, dtype=torch.bool, device=asking.device)
        paired[pairs.frame, pairs.student] = True
        ambiguous = torch.zeros(len(asking), count, dtype=torch.bool, device=asking.device)
        for frame in pairs.frame[other].unique():
            rows = pairs.frame[other] == frame
            overlap = tube_iou(student[frame].unsqueeze(1), teacher[other[rows]].unsqueeze(1).float())
            ambiguous[rows] = (overlap.T >= AMBIGUOUS) & ~paired[frame]
        return ambiguous


class ClassSignal(PairSignal):
    """Soft class probabilities, over the classes that both know."""

    def forward(self, batch: PairBatch) -> tuple[Tensor, Tensor]:
        pairs = batch.pairs
        logits = batch.student.logits[pairs.frame, pairs.student].float()
        target = batch.teacher.logits[pairs.clip, pairs.teacher].float().sigmoid()
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * batch.known
        return batch.weighted(loss.sum(-1))


class MaskSignal(PairSignal):
    """Soft masks of the frame."""

    def forward(self, batch: PairBatch) -> tuple[Tensor, Tensor]:
        if not len(batch.pairs):
            return batch.zero()
        student = batch.student_masks()
        teacher = batch.teacher_masks(student.shape[-2:])
        return batch.weighted(mask_bce(student, teacher) + dice(student, teacher))


PAIR_SIGNALS: dict[str, type[PairSignal]] = {
    "embedding": EmbeddingSignal,
    "relation": RelationSignal,
    "key": KeySignal,
    "soft_association": SoftAssociationSignal,
    "class": ClassSignal,
    "mask": MaskSignal,
}


def _identity_map(inputs: int, outputs: int) -> nn.Linear:
    """A map that starts as the identity: student and teacher often begin as the same frame network."""
    linear = nn.Linear(inputs, outputs)
    nn.init.eye_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def _log_softmax(logits: Tensor, allowed: Tensor) -> Tensor:
    """Log-probabilities over the allowed entries of each row. The others stay finite and are not used."""
    return logits.masked_fill(~allowed, -1e4).log_softmax(1)


def _select_masks(masks: Callable[[Tensor], Tensor], row: Tensor, query: Tensor, rows: int) -> Tensor:
    """The masks of (row, query) pairs [P, ...] from a function that takes [rows, N] queries."""
    count = torch.bincount(row, minlength=rows)
    order = row.argsort(stable=True)
    within = torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[row[order]]
    select = torch.zeros(rows, int(count.max()), dtype=torch.long, device=row.device)
    select[row[order], within] = query[order]
    found = masks(select)[row[order], within]
    return found[order.argsort()]
