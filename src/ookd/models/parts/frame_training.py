"""What trainings on single frames share: the answer for the student's frames, and then a judgement of it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from ookd.models.families import family_of
from ookd.models.parts.frame_targets import FrameTargets, frame_targets
from ookd.models.protocols import OnlineModel, StudentTask
from ookd.structures import Batch, FrameQueries, StudentMatches

# named loss terms, then the query of each instance and whether it has one, both [F, N]
Judged = tuple[dict[str, Tensor], Tensor, Tensor]


class FrameTraining(StudentTask):
    """Batch -> named loss terms, not yet weighted."""

    model: OnlineModel
    usual_weights: ClassVar[Mapping[str, float]]

    def __init__(self, model: OnlineModel, weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.model = model
        self.weights = dict(self.usual_weights if weights is None else weights)
        self.normalise = family_of(model).preprocessing.normalise

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.learn(batch)[0]

    def learn(self, batch: Batch) -> tuple[dict[str, Tensor], StudentMatches]:
        """The terms, and the model's answer for the student's frames, matched to the instances."""
        batch = batch.seen_by_student()
        frames, pad = batch.frames.flatten(0, 1), batch.pad.flatten(0, 1)
        answer, _ = self.model(self.normalise(frames, pad), pad)
        terms, query, found = self.judge(answer, frame_targets(batch.tracks), batch)
        return terms, StudentMatches(answer, query, found)

    @abstractmethod
    def judge(self, answer: FrameQueries, targets: FrameTargets, batch: Batch) -> Judged:
        """Match the answer for the F frames of a batch to the instances, and compare them."""


def every_query(logits: Tensor) -> Tensor:
    """[R, Q] the numbers of all queries."""
    return torch.arange(logits.shape[1], device=logits.device).expand(len(logits), -1)
