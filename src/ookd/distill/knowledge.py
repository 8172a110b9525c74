"""What a signal may look at: the pairs, both models' answers, and what is known of each pair's instance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ookd.distill.qfa import Pairs
from ookd.structures import ClipQueries, FrameQueries, Tracks


@dataclass(slots=True)
class TeacherAnswer:
    """What a teacher says of n clips of a batch. It may have seen other frames than the student."""

    answer: ClipQueries  # of n clips
    tracks: list[Tracks]  # n, the truth on the answer's frames; empty where there are no labels
    clips: Tensor  # [n] which clips of the batch that was asked about
    places: Tensor  # [n, S] which of the answer's frames the student saw
    maps: list[Tensor] = field(default_factory=list)  # [n * S, C, h, w] the answer's, of those frames
    probe: Callable[[Tensor, Tensor | None], FrameQueries] | None = None  # the answer's, of those frames


@dataclass(frozen=True, slots=True)
class Widths:
    """How many channels things have, so that a signal can make its maps from one model's space to the
    other's.
    """

    features: int  # of what is known of an instance
    teacher_maps: list[int]
    student_maps: list[int]
    queries: tuple[int, int]  # of the student's query features and embeddings
    probe: tuple[int, int] | None  # of those of the teacher's frame network, if that can be asked

    @property
    def alike(self) -> bool:
        """The teacher's frame network is built as the student is: their channels can mean the same."""
        return self.probe == self.queries and self.student_maps == self.teacher_maps


@dataclass(slots=True)
class PairBatch:
    """Everything a signal may look at. P pairs, n clips, F student frames; the teacher's side has no
    gradient.
    """

    pairs: Pairs
    told: TeacherAnswer
    answer: FrameQueries  # of the student, F frames
    pad: Tensor  # [F, H, W] bool, of the student's frames
    features: Tensor  # [P, D] what is known of the instance in the whole clip
    views: Tensor  # [P, D] and in the pair's frame
    known: Tensor  # [K] bool: classes that the teacher knows too
    temperature: float  # cosines are multiplied by it, as in the tracker

    def weighted(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """[P] values of the pairs: their sum, each by its trust, and the sum of the trust."""
        return (values * self.pairs.weight).sum(), self.pairs.weight.sum()

    def nothing(self) -> tuple[Tensor, Tensor]:
        """Where there are no pairs."""
        return self.answer.embed.sum() * 0, self.pairs.weight.sum()

    def embeds(self) -> Tensor:
        """[P, E] the student's embeddings, of length one."""
        return F.normalize(self.answer.embed[self.pairs.frame, self.pairs.student].float(), dim=-1)

    def together(self) -> Tensor:
        """[P, P] pairs of the same clip."""
        return self.pairs.clip.unsqueeze(1) == self.pairs.clip

    def same(self) -> Tensor:
        """[P, P] pairs of the same instance."""
        return self.together() & (self.pairs.teacher.unsqueeze(1) == self.pairs.teacher)

    def student_frames(self) -> Tensor:
        """[n * S] the student's frames of these clips, out of F."""
        steps = self.told.places.shape[1]
        within = torch.arange(steps, device=self.told.clips.device)
        return (self.told.clips.unsqueeze(1) * steps + within).flatten()

    def student_masks(self) -> Tensor:
        """[P, h, w] logits in the pair's frame."""
        return _selected(self.answer.masks, self.pairs.frame, self.pairs.student, len(self.answer.logits))

    def teacher_tubes(self) -> Tensor:
        """[P, T, h, w] logits in all frames of the answer."""
        answer = self.told.answer
        return _selected(answer.masks, self.pairs.clip, self.pairs.teacher, len(answer.logits))

    def teacher_masks(self, size: torch.Size) -> Tensor:
        """[P, *size] probabilities in the pair's frame."""
        tubes = self.teacher_tubes()
        shown = tubes[torch.arange(len(tubes), device=tubes.device), self.pairs.place].float().sigmoid()
        return F.interpolate(shown.unsqueeze(1), size, mode="bilinear").squeeze(1)


def _selected(masks: Callable[[Tensor], Tensor], row: Tensor, query: Tensor, rows: int) -> Tensor:
    """The masks of (row, query) pairs [P, ...] from a function that takes [rows, N] queries."""
    count = torch.bincount(row, minlength=rows)
    order = row.argsort(stable=True)
    within = torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[row[order]]
    select = torch.zeros(rows, int(count.max()), dtype=torch.long, device=row.device)
    select[row[order], within] = query[order]
    found = masks(select)[row[order], within]
    return found[order.argsort()]
