"""Whose features a student is taught: the teacher's, or a stand-in's that tells what the teacher's are worth.

A gain that a stand-in gives as well is not the teacher's. Only features are replaced, which `embedding`,
`relation`, `key` and `soft_association` read; classes, masks and pixels stay the teacher's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ookd.distill.qfa import Pairs
from ookd.structures import ClipQueries, FrameQueries

SLOWEST = 0.01  # share by which a class's mean moves with every step that shows the class


class Features(nn.Module):
    """The teacher's own: of each pair's instance in the whole clip and in the frame, [P, D] each."""

    def __init__(self, classes: int, teacher: int, student: int) -> None:
        super().__init__()
        self.width = teacher

    def forward(self, pairs: Pairs, teacher: ClipQueries, answer: FrameQueries) -> tuple[Tensor, Tensor]:
        return (
            teacher.features[pairs.clip, pairs.teacher].float(),
            teacher.frame_features[pairs.clip, pairs.place, pairs.teacher].float(),
        )


class Shuffled(Features):
    """Every instance is given what the teacher knows of the next one in the batch."""

    def forward(self, pairs: Pairs, teacher: ClipQueries, answer: FrameQueries) -> tuple[Tensor, Tensor]:
        rows, own = torch.stack([pairs.clip, pairs.teacher], 1).unique(dim=0, return_inverse=True)
        clip, query = rows.roll(-1, 0)[own].unbind(1)
        return (
            teacher.features[clip, query].float(),
            teacher.frame_features[clip, pairs.place, query].float(),
        )


class ClassPrototypes(Features):
    """The mean of what the teacher said so far of the instance's class: it no longer knows this one."""

    mean: Tensor  # [K, D]
    seen: Tensor  # [K] steps that showed the class

    def __init__(self, classes: int, teacher: int, student: int) -> None:
        super().__init__(classes, teacher, student)
        self.register_buffer("mean", torch.zeros(classes, teacher))
        self.register_buffer("seen", torch.zeros(classes))

    def forward(self, pairs: Pairs, teacher: ClipQueries, answer: FrameQueries) -> tuple[Tensor, Tensor]:
        label = teacher.logits[pairs.clip, pairs.teacher].argmax(-1)
        if self.training:
            count = self.seen.new_zeros(len(self.seen)).index_add(0, label, torch.ones_like(pairs.weight))
            features = teacher.features[pairs.clip, pairs.teacher].float()
            total = torch.zeros_like(self.mean).index_add(0, label, features)
            shown = count > 0
            self.seen += shown
            share = (1 / self.seen.clamp(min=1)).clamp(min=SLOWEST) * shown
            self.mean += share.unsqueeze(1) * (total / count.clamp(min=1).unsqueeze(1) - self.mean)
        return self.mean[label].clone(), self.mean[label].clone()


class InstancePrototypes(Features):
    """The mean of the student's own embeddings of the instance, in the frames it saw: what labels alone
    tell.
    """

    def __init__(self, classes: int, teacher: int, student: int) -> None:
        super().__init__(classes, teacher, student)
        self.width = student

    def forward(self, pairs: Pairs, teacher: ClipQueries, answer: FrameQueries) -> tuple[Tensor, Tensor]:
        embeds = F.normalize(answer.embed[pairs.frame, pairs.student].detach().float(), dim=-1)
        rows, own = torch.stack([pairs.clip, pairs.teacher], 1).unique(dim=0, return_inverse=True)
        total = embeds.new_zeros(len(rows), embeds.shape[1]).index_add(0, own, embeds)
        mean = F.normalize(total, dim=-1)[own]
        return mean, mean


CONTROLS: dict[str | None, type[Features]] = {
    None: Features,
    "shuffled": Shuffled,
    "classes": ClassPrototypes,
    "instances": InstancePrototypes,
}
