"""What is transferred frame by frame, without pairs: what the teacher's frame network says about the very
frames that the student sees.

A frame signal is a module that maps a `FrameBatch` to a weighted sum and the sum of the weights. It owns the
learned maps that it needs, and says itself what it needs of a model beyond the common answers. To add one,
write a class and name it in `FRAME_SIGNALS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ookd.errors import UserError
from ookd.structures import ClipQueries, FrameQueries

FLAT = 1e-4  # variance below which a channel says nothing


@dataclass(slots=True)
class FrameBatch:
    """f frames as both models saw them. The teacher's side has no gradient."""

    student: FrameQueries  # F frames
    teacher: ClipQueries  # n clips of T frames
    student_frames: Tensor  # [f] index into the student's F frames
    teacher_frames: Tensor  # [f] index into the teacher's n * T frames
    pad: Tensor  # [F, H, W] bool, True where the student's frames show no image


class FrameSignal(nn.Module):
    def __init__(self, example: FrameBatch) -> None:
        """Takes an example of what it will be given, for the widths of its maps."""
        super().__init__()

    def forward(self, batch: FrameBatch) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


@runtime_checkable
class PlacedQueries(Protocol):
    """Queries of F frames that know where they started, so that another model can decode the same ones."""

    logits: Tensor  # [F, Q, K]
    embed: Tensor  # [F, Q, E]
    places: Tensor  # [F, Q, 2] where they started, x and y in 0..1
    between: Tensor | None  # [1, Q, Q] added to the attention among them: -inf hides one from another
    layers: list[Tensor]  # [F, Q, D] their features, from the start to the answer


@runtime_checkable
class DecodesAtPlaces(Protocol):
    """A clip answer whose frame network can decode queries at given places."""

    @property
    def decode_at(self) -> Callable[[Tensor, Tensor, Tensor | None], PlacedQueries]:
        """Takes frames [f] of n * T, places [f, Q, 2] and `between` [1, Q, Q]."""


class PixelSignal(FrameSignal):
    """What the student knows of each place rises and falls from place to place as the teacher's does.

    Channels are correlated one by one, so that neither offset nor scale matters.
    """

    def __init__(self, example: FrameBatch) -> None:
        super().__init__(example)
        pairs = list(zip(example.student.maps, example.teacher.maps, strict=False))
        if not pairs:
            raise UserError("distill.signals.pixels: this teacher or student has no maps to compare")
        same = same_architecture(example)
        self.to_teacher = nn.ModuleList(
            nn.Identity() if same else nn.Conv2d(student.shape[1], teacher.shape[2], 1)
            for student, teacher in pairs
        )

    def forward(self, batch: FrameBatch) -> tuple[Tensor, Tensor]:
        pad = batch.pad[batch.student_frames]
        terms = []
        for to_teacher, student, teacher in zip(
            self.to_teacher, batch.student.maps, batch.teacher.maps, strict=False
        ):
            size = student.shape[-2:]
            target = teacher.flatten(0, 1)[batch.teacher_frames].float()
            if target.shape[-2:] != size:
                target = F.interpolate(target, size, mode="bilinear")
            shown = ~pad[:, :: pad.shape[1] // size[0], :: pad.shape[2] // size[1]]
            mapped = to_teacher(student[batch.student_frames])
            terms.append(correlation_loss(_cells(mapped), _cells(target), shown.flatten().float()))
        count = pad.new_tensor(len(batch.student_frames), dtype=torch.float32)
        return torch.stack(terms).mean() * count, count


class SharedQuerySignal(FrameSignal):
    """The teacher's frame network decodes the student's own queries: they start at the same places and are
    hidden from one another as the student's are, so each has a twin and no pairs are needed.

    After every layer, the features vary from query to query as the teacher's do. The embeddings point where
    the teacher's do. Both are weighted by how sure the teacher is.
    """

    def __init__(self, example: FrameBatch) -> None:
        super().__init__(example)
        found = twins(example)
        if found is None:
            raise UserError("distill.signals.shared: this teacher or student cannot decode at given places")
        same = same_architecture(example)
        self.to_teacher = nn.ModuleList(
            nn.Identity() if same else nn.Linear(student, teacher)
            for student, teacher in zip(*map(_query_widths, found), strict=True)
        )

    def forward(self, batch: FrameBatch) -> tuple[Tensor, Tensor]:
        found = twins(batch)
        assert found is not None
        student, teacher = found
        frames = batch.student_frames
        trust = teacher.logits.float().sigmoid().amax(-1).flatten()  # [fQ]
        features, embedding = self.to_teacher
        layers = zip(reversed(student.layers), reversed(teacher.layers), strict=False)
        terms = [
            correlation_loss(features(mine[frames]).flatten(0, 1), theirs.flatten(0, 1), trust)
            for mine, theirs in layers
        ]
        cosine = F.cosine_similarity(
            embedding(student.embed[frames]).float(), teacher.embed.float(), dim=-1
        ).flatten()
        weight = trust.sum()
        return torch.stack(terms).mean() * weight + ((1 - cosine) * trust).sum(), weight


FRAME_SIGNALS: dict[str, type[FrameSignal]] = {"pixels": PixelSignal, "shared": SharedQuerySignal}


@torch.no_grad()
def twins(batch: FrameBatch) -> tuple[PlacedQueries, PlacedQueries] | None:
    """The student's queries of all its frames and the teacher's twins of those in the batch's frames, if
    both models can decode at given places.
    """
    student, teacher = batch.student, batch.teacher
    if not (isinstance(student, PlacedQueries) and isinstance(teacher, DecodesAtPlaces)):
        return None
    places = student.places[batch.student_frames]
    return student, teacher.decode_at(batch.teacher_frames, places, student.between)


def same_architecture(batch: FrameBatch) -> bool:
    """Whether the teacher's frame network is built as the student is, so that channels can mean the same."""
    found = twins(batch)
    if found is None or _query_widths(found[0]) != _query_widths(found[1]):
        return False
    return [m.shape[1] for m in batch.student.maps] == [m.shape[2] for m in batch.teacher.maps]


def correlation_loss(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    """One minus the correlation of each channel over R rows, averaged over the channels.

    student and teacher [R, C], weight [R].
    """
    share = (weight / weight.sum().clamp(min=1e-6)).unsqueeze(1)

    def centred(x: Tensor) -> Tensor:
        return x.float() - (share * x.float()).sum(0)

    a, b = centred(student), centred(teacher)
    spread = ((share * a * a).sum(0) + FLAT) * ((share * b * b).sum(0) + FLAT)
    return (1 - (share * a * b).sum(0) / spread.sqrt()).mean()


def _query_widths(queries: PlacedQueries) -> tuple[int, int]:
    """Channels of features and embeddings."""
    return queries.layers[-1].shape[-1], queries.embed.shape[-1]


def _cells(maps: Tensor) -> Tensor:
    """[F, C, h, w] -> [Fhw, C]."""
    return maps.flatten(2).transpose(1, 2).flatten(0, 1)
