"""What is transferred over the pairs. Teacher tensors carry no gradient; every signal is one number.

Adding one: a function of `Knowledge` here, its name in `SIGNALS`, its entry in the recipe's `distill`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ookd.distill.qfa import Pairs
from ookd.losses import dice, mask_bce
from ookd.structures import ClipQueries, FrameQueries


class Bridge(nn.Module):
    """Learned maps between the two models' spaces; used in training only."""

    def __init__(self, teacher: int, student: int) -> None:
        super().__init__()
        self.to_teacher = nn.Linear(student, teacher)  # a student's embedding, to where clip features are
        self.to_student = nn.Linear(teacher, student)  # a clip feature, to where the tracker compares


@dataclass(slots=True)
class Knowledge:
    """Everything a signal may look at."""

    pairs: Pairs
    teacher: ClipQueries
    answer: FrameQueries  # of the student, F frames
    known: Tensor  # [K] bool: classes that the teacher knows too
    bridge: Bridge
    temperature: float  # cosines are multiplied by it, as in the tracker

    def weighted(self, values: Tensor) -> Tensor:
        """Mean over the pairs, each by its trust; 0 without pairs."""
        weight = self.pairs.weight
        return (values * weight).sum() / weight.sum().clamp(min=1e-6)

    def embeds(self) -> Tensor:
        """[P, E] the student's embeddings, of length one."""
        return F.normalize(self.answer.embed[self.pairs.frame, self.pairs.student].float(), dim=-1)

    def clip_features(self) -> Tensor:
        """[P, D] what the teacher says of the instance in the whole clip."""
        return self.teacher.features[self.pairs.clip, self.pairs.teacher].float()


def embedding(k: Knowledge) -> Tensor:
    """The student's embedding, projected, points where the teacher's clip feature does."""
    cosine = F.cosine_similarity(k.bridge.to_teacher(k.embeds()), k.clip_features(), dim=-1)
    return k.weighted(1 - cosine)


def relation(k: Knowledge) -> Tensor:
    """In the tracker's own space: nearest to one's own clip feature, and as confusable as the teacher finds.

    A student embedding must pick its instance's mapped clip feature among those of its clip. And between two
    frames, its similarities to the other frame's instances follow those of the teacher's clip features.
    """
    pairs, embeds, features = k.pairs, k.embeds(), k.clip_features()
    if not len(pairs):
        return embeds.sum() * 0
    keys = F.normalize(k.bridge.to_student(features), dim=-1)
    together = pairs.clip.unsqueeze(1) == pairs.clip
    # one key an instance: of the pairs that share a teacher query the first stands for all
    same = together & (pairs.teacher.unsqueeze(1) == pairs.teacher)
    first = same.float().argmax(1)  # [P]
    is_key = first == torch.arange(len(first), device=first.device)
    logits = (k.temperature * embeds @ keys.T).masked_fill(~(together & is_key), -torch.inf)
    own = F.cross_entropy(logits, first, reduction="none")

    across = together & (pairs.frame.unsqueeze(1) != pairs.frame)
    alike = F.normalize(features, dim=-1)
    mine = _rows(k.temperature * embeds @ embeds.T, across)
    theirs = _rows(k.temperature * alike @ alike.T, across)
    rows = across.any(1)
    soft = torch.zeros_like(own)
    divergence = (theirs.exp() * (theirs - mine)).masked_fill(~across, 0.0).sum(1)
    soft = torch.where(rows, divergence, soft)
    return k.weighted(own + soft)


def class_(k: Knowledge) -> Tensor:
    """Soft class probabilities, of the classes both know."""
    logits = k.answer.logits[k.pairs.frame, k.pairs.student].float()
    wanted = k.teacher.logits[k.pairs.clip, k.pairs.teacher].float().sigmoid()
    each = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none") * k.known
    return k.weighted(each.sum(-1))


def mask(k: Knowledge) -> Tensor:
    """Soft masks of the frame."""
    pairs = k.pairs
    if not len(pairs):
        return k.answer.embed.sum() * 0
    frames, clips = len(k.answer.logits), len(k.teacher.logits)
    mine = _selected(k.answer.masks, pairs.frame, pairs.student, frames)
    tubes = _selected(k.teacher.masks, pairs.clip, pairs.teacher, clips)  # [P, T, h, w]
    theirs = tubes[torch.arange(len(pairs), device=tubes.device), pairs.place].sigmoid()
    theirs = F.interpolate(theirs.unsqueeze(1), mine.shape[-2:], mode="bilinear").squeeze(1)
    return k.weighted(mask_bce(mine, theirs) + dice(mine, theirs))


SIGNALS: dict[str, Callable[[Knowledge], Tensor]] = {
    "embedding": embedding,
    "relation": relation,
    "class": class_,
    "mask": mask,
}


def _rows(logits: Tensor, allowed: Tensor) -> Tensor:
    """Log-probabilities over the allowed entries of each row; the others stay finite and are not used."""
    return logits.masked_fill(~allowed, -1e4).log_softmax(1)


def _selected(masks: Callable[[Tensor], Tensor], row: Tensor, query: Tensor, rows: int) -> Tensor:
    """The masks of (row, query) pairs [P, ...] from a function that takes [rows, N] queries."""
    count = torch.bincount(row, minlength=rows)
    order = row.argsort(stable=True)
    within = torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[row[order]]
    select = torch.zeros(rows, int(count.max()), dtype=torch.long, device=row.device)
    select[row[order], within] = query[order]
    found = masks(select)[row[order], within]
    return found[order.argsort()]
