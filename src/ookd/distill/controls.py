"""Which features a student is taught: the teacher's, or a stand-in's that shows what the teacher's are worth.

A gain that a stand-in gives as well is not due to the teacher. Only features are replaced, which `embedding`,
`relation`, `key` and `soft_association` read. Classes, masks and pixels stay the teacher's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ookd.distill.qfa import QueryPairs
from ookd.structures import ClipQueries, FrameQueries

LEAST_RATE = 0.01  # by which the mean of a class moves, at least, with every step that shows the class


class TeacherFeatures(nn.Module):
    """The teacher's own: of each pair's instance in the whole clip and in the frame, [P, D] each."""

    def __init__(self, classes: int, teacher: int, student: int) -> None:
        """Takes the channels of the teacher's features and of the student's embeddings."""
        super().__init__()
        self.width = teacher

    def forward(
        self, pairs: QueryPairs, teacher: ClipQueries, student: FrameQueries
    ) -> tuple[Tensor, Tensor]:
        return (
            teacher.features[pairs.clip, pairs.teacher].float(),
            teacher.frame_features[pairs.clip, pairs.place, pairs.teacher].float(),
        )


class ShuffledFeatures(TeacherFeatures):
    """Every instance is given what the teacher knows of the next one in the batch."""

    def forward(
        self, pairs: QueryPairs, teacher: ClipQueries, student: FrameQueries
    ) -> tuple[Tensor, Tensor]:
        rows, own = torch.stack([pairs.clip, pairs.teacher], 1).unique(dim=0, return_inverse=True)
        clip, query = rows.roll(-1, 0)[own].unbind(1)
        return (
            teacher.features[clip, query].float(),
            teacher.frame_features[clip, pairs.place, query].float(),
        )


class ClassPrototypes(TeacherFeatures):
    """The mean of what the teacher said so far of the instance's class; which individual it is, is lost."""

    mean: Tensor  # [K, D]
    seen: Tensor  # [K] steps that showed the class

    def __init__(self, classes: int, teacher: int, student: int) -> None:
        super().__init__(classes, teacher, student)
        self.register_buffer("mean", torch.zeros(classes, teacher))
        self.register_buffer("seen", torch.zeros(classes))

    def forward(
        self, pairs: QueryPairs, teacher: ClipQueries, student: FrameQueries
    ) -> tuple[Tensor, Tensor]:
        label = teacher.logits[pairs.clip, pairs.teacher].argmax(-1)
        if self.training:
            count = self.seen.new_zeros(len(self.seen)).index_add(0, label, torch.ones_like(pairs.weight))
            features = teacher.features[pairs.clip, pairs.teacher].float()
            total = torch.zeros_like(self.mean).index_add(0, label, features)
            shown = count > 0
            self.seen += shown
            rate = (1 / self.seen.clamp(min=1)).clamp(min=LEAST_RATE) * shown
            self.mean += rate.unsqueeze(1) * (total / count.clamp(min=1).unsqueeze(1) - self.mean)
        return self.mean[label].clone(), self.mean[label].clone()


class InstancePrototypes(TeacherFeatures):
    """The mean of the student's own embeddings of the instance in the frames it saw: what labels alone
    teach.
    """

    def __init__(self, classes: int, teacher: int, student: int) -> None:
        super().__init__(classes, teacher, student)
        self.width = student

    def forward(
        self, pairs: QueryPairs, teacher: ClipQueries, student: FrameQueries
    ) -> tuple[Tensor, Tensor]:
        embeddings = F.normalize(student.embed[pairs.frame, pairs.student].detach().float(), dim=-1)
        rows, own = torch.stack([pairs.clip, pairs.teacher], 1).unique(dim=0, return_inverse=True)
        total = embeddings.new_zeros(len(rows), embeddings.shape[1]).index_add(0, own, embeddings)
        mean = F.normalize(total, dim=-1)[own]
        return mean, mean


CONTROLS: dict[str | None, type[TeacherFeatures]] = {
    None: TeacherFeatures,
    "shuffled": ShuffledFeatures,
    "classes": ClassPrototypes,
    "instances": InstancePrototypes,
}
