"""The teacher beside a student's training: it is frozen, and says what it knows of the clips of a batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ookd.errors import UserError
from ookd.models import zoo
from ookd.models.families import family_of
from ookd.models.protocols import OfflineModel
from ookd.stopwatch import timed
from ookd.structures import Batch, ClipQueries, Tracks


@dataclass(slots=True)
class TeacherAnswer:
    """What a teacher says about n clips of a batch. It may have seen other frames than the student."""

    queries: ClipQueries  # n clips
    tracks: list[Tracks]  # n, the ground truth of those frames; empty where there are no labels
    clips: Tensor  # [n] index into the clips of the batch
    places: Tensor  # [n, S] which frames of the clip the student saw
    # What the teacher's frame network says, for signals that compare frames: the same clip queries or, beside
    # a cache, those of a live teacher; and which of their frames the student saw.
    frames: ClipQueries | None = None
    frame_places: Tensor | None = None  # [n, S]


class LiveTeacher:
    """Runs the offline model on every clip of every step.

    It is no `nn.Module`, so that it is neither trained, nor saved, nor shared among processes.
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
    def infer(self, batch: Batch) -> list[TeacherAnswer]:
        """Its answer for all clips, with its classes in the student's order."""
        device = batch.frames.device
        self.model.to(device)
        queries: ClipQueries = self.model(
            self.family.preprocessing.normalise(batch.frames, batch.pad), batch.pad
        )
        queries.logits = self.in_student_order(queries.logits)
        places, every = student_places(batch), torch.arange(len(batch.frames), device=device)
        return [TeacherAnswer(queries, batch.tracks, every, places, queries, places)]

    def in_student_order(self, logits: Tensor) -> Tensor:
        """[..., K] logits of the student's classes from those of the teacher's, far below 0 for classes that
        the teacher does not know.
        """
        logits = self.family.class_logits(logits)
        columns = self._columns.to(logits.device)
        return logits[..., columns.clamp(min=0)].masked_fill(columns < 0, -20.0)


def student_places(batch: Batch) -> Tensor:
    """[B, S] which of a clip's frames the student sees."""
    if batch.student is not None:
        return batch.student
    every = torch.arange(batch.frames.shape[1], device=batch.frames.device)
    return every.expand(len(batch.frames), -1)
