"""The teacher beside a student's training: it is frozen, and says what it knows of the clips of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ookd.config import Distill
from ookd.errors import UserError
from ookd.models import zoo
from ookd.models.families import family_of
from ookd.models.preprocess import LONGEST, Preprocessing, unpadded_sizes
from ookd.models.protocols import OfflineModel, OnlineModel
from ookd.models.slot_clip import SlotClip
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
    """Runs the offline model on every clip of every step, or an online one whose queries are identities.

    It is no `nn.Module`, so that it is neither trained, nor saved, nor shared among processes.
    """

    def __init__(self, spec: Distill, names: list[str]) -> None:
        folder = spec.teacher
        saved = zoo.load(folder)
        model = saved.model
        if isinstance(model, OnlineModel) and model.queries_stay:
            model = SlotClip(model)
        if not isinstance(model, OfflineModel):
            raise UserError(
                f"{folder}: a teacher sees whole clips, or has queries that stay with their objects; this "
                "model sees single frames"
            )
        # [K, M] its classes for each of the student's, padded with -1
        self._columns = class_columns(saved.names, names, spec.rename)
        self.known = (self._columns >= 0).any(1)  # [K]
        if not self.known.any():
            raise UserError(
                f"{folder}: the teacher knows none of the classes {', '.join(names)}; it knows "
                f"{', '.join(saved.names)}; distill.rename says which are the same"
            )
        self.model = model.requires_grad_(False).eval()
        self.family = family_of(self.model)
        self.side = spec.teacher_side

    @timed("teacher")
    @torch.no_grad()
    def infer(self, batch: Batch) -> list[TeacherAnswer]:
        """Its answer for all clips, with its classes in the student's order."""
        device = batch.frames.device
        self.model.to(device)
        preprocessing = self.family.preprocessing
        frames, pad = resized_clips(batch.frames, batch.pad, self.side, preprocessing)
        queries: ClipQueries = self.model(preprocessing.normalise(frames, pad), pad)
        queries.logits = self.in_student_order(queries.logits)
        places, every = student_places(batch), torch.arange(len(batch.frames), device=device)
        return [TeacherAnswer(queries, batch.tracks, every, places, queries, places)]

    def in_student_order(self, logits: Tensor) -> Tensor:
        """[..., K] logits of the student's classes from those of the teacher's, far below 0 for classes that
        the teacher does not know. Of several classes that are one to the student, the best counts.
        """
        logits = self.family.class_logits(logits)
        columns = self._columns.to(logits.device)
        return logits[..., columns.clamp(min=0)].masked_fill(columns < 0, -20.0).amax(-1)


def class_columns(teacher: list[str], student: list[str], rename: Mapping[str, str]) -> Tensor:
    """[K, M] the teacher's labels for each of the student's classes, padded with -1."""
    for name, to in rename.items():
        for kind, one, known in (("teacher", name, teacher), ("student", to, student)):
            if one not in known:
                raise UserError(
                    f"distill.rename: {name}: {to}: the {kind} has no class {one}; it has {', '.join(known)}"
                )
    called = [rename.get(name, name) for name in teacher]
    found = [[label for label, name in enumerate(called) if name == one] for one in student]
    most = max(1, *map(len, found)) if found else 1
    return torch.tensor([labels + [-1] * (most - len(labels)) for labels in found])


def resized_clips(
    frames: Tensor, pad: Tensor, side: int | None, preprocessing: Preprocessing
) -> tuple[Tensor, Tensor]:
    """Frames [B, T, 3, H, W] of 0..255 and their padding [B, T, H, W] at the size that a model needs.

    The largest of the images gets this short side; without one, sizes stay. What is padded is stretched to
    the next multiples, so that the same share of it is padding.
    """
    height, width = frames.shape[-2:]
    scale = 1.0
    if side is not None:
        short = unpadded_sizes(pad.flatten(0, 1)).amin(-1).max()
        scale = min(side / float(short), LONGEST / max(height, width))
    size = [preprocessing.padded(round(each * scale)) for each in (height, width)]
    if size == [height, width]:
        return frames, pad
    b = len(frames)
    moved = F.interpolate(frames.flatten(0, 1).float(), size, mode="bilinear", antialias=True)
    outside = F.interpolate(pad.float(), size, mode="nearest") > 0.5
    return moved.clamp(0, 255).unflatten(0, (b, -1)), outside


def student_places(batch: Batch) -> Tensor:
    """[B, S] which of a clip's frames the student sees."""
    if batch.student is not None:
        return batch.student
    every = torch.arange(batch.frames.shape[1], device=batch.frames.device)
    return every.expand(len(batch.frames), -1)
