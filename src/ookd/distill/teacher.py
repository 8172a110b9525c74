"""The teacher beside a student's training: frozen, asked for what it knows of a batch's clips."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ookd.distill.knowledge import TeacherAnswer, Widths
from ookd.errors import UserError
from ookd.models import zoo
from ookd.models.families import family_of
from ookd.models.protocols import OfflineModel
from ookd.stopwatch import timed
from ookd.structures import Batch, ClipQueries, FrameQueries


class LiveTeacher:
    """Runs the offline model on every clip of every step.

    It is no module: neither trained, nor saved, nor shared among processes.
    """

    def __init__(self, folder: str, names: list[str]) -> None:
        saved = zoo.load(folder)
        if not isinstance(saved.model, OfflineModel):
            raise UserError(f"{folder}: a teacher sees whole clips; this model sees single frames")
        columns = [saved.names.index(name) if name in saved.names else -1 for name in names]
        if max(columns) < 0:
            raise UserError(f"{folder}: the teacher knows none of the classes {', '.join(names)}")
        self.model = saved.model.requires_grad_(False).eval()
        self.family = family_of(self.model)
        self._columns = torch.tensor(columns)  # [K] its class for each of the student's; -1 where it has none
        self.known = self._columns >= 0  # [K]

    @timed("teacher")
    @torch.no_grad()
    def ask(self, batch: Batch) -> list[TeacherAnswer]:
        """What it knows of all clips, its classes in the student's order."""
        device = batch.frames.device
        self.model.to(device)
        answer: ClipQueries = self.model(
            self.family.preprocessing.normalise(batch.frames, batch.pad), batch.pad
        )
        answer.logits = self.in_order(answer.logits)
        shown, every = places(batch), torch.arange(len(batch.frames), device=device)
        frames = (every.unsqueeze(1) * batch.frames.shape[1] + shown).flatten()  # the student's, of B * T
        probe = answer.probe
        return [
            TeacherAnswer(
                answer,
                batch.tracks,
                every,
                shown,
                [level.flatten(0, 1)[frames] for level in answer.maps],
                None if probe is None else partial(probe, frames),
            )
        ]

    def in_order(self, logits: Tensor) -> Tensor:
        """[..., K] the teacher's logits for the student's classes; far below 0 where it knows none such."""
        logits = self.family.class_logits(logits)
        columns = self._columns.to(logits.device)
        return logits[..., columns.clamp(min=0)].masked_fill(columns < 0, -20.0)

    def widths(self, student: FrameQueries) -> Widths:
        """How many channels its answers and those of a student have."""
        answer: ClipQueries = look(self.model, torch.zeros(1, 1, 3, 64, 64))
        probe = None
        if answer.probe is not None and student.asked is not None:
            found = answer.probe(torch.zeros(1, dtype=torch.long), student.asked.places.cpu(), None)
            probe = found.features.shape[-1], found.embed.shape[-1]
        return Widths(
            answer.features.shape[-1],
            [level.shape[2] for level in answer.maps],
            [level.shape[1] for level in student.maps],
            (student.features.shape[-1], student.embed.shape[-1]),
            probe,
        )


def places(batch: Batch) -> Tensor:
    """[B, S] which of a clip's frames the student sees."""
    if batch.student is not None:
        return batch.student
    every = torch.arange(batch.frames.shape[1], device=batch.frames.device)
    return every.expand(len(batch.frames), -1)


@torch.no_grad()
def look(model: nn.Module, frames: Tensor) -> Any:
    """A model's answer to empty frames, from which its widths are read."""
    training, device = model.training, next(model.parameters()).device
    pad = torch.zeros(*frames.shape[:-3], *frames.shape[-2:], dtype=torch.bool, device=device)
    answer = model.eval()(frames.to(device), pad)
    model.train(training)
    return answer
