"""The training of the compact clip teacher: tubes are matched once for a whole clip.

As in the student, there are auxiliary queries: every instance also gets its own seed, the frame query that
was matched to it in some frame, and must be recognised from there in all other frames. These need no
matching, and the other clip queries do not see them.

Shapes: B clips, T frames, F = B * T, N instances (padded), C clip queries, Q frame queries, h w a grid of
cells.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ookd.losses import dice, mask_bce, mask_quality, mean_over_ranks, quality_focal
from ookd.matching import hungarian_rows
from ookd.models.compact import training as compact_training
from ookd.models.compact.clip import ClipAnswer, CompactClip
from ookd.models.compact.training import CompactTraining, match_masks
from ookd.models.families import family_of
from ookd.models.parts.frame_targets import FINEST, FrameTargets, frame_targets, lies_in
from ookd.models.protocols import TrainingTask
from ookd.stopwatch import timed
from ookd.structures import Batch

_WEIGHTS = {"class": 1.5, "mask": 1.0, "dice": 5.0, "presence": 2.0, "association": 1.0}
WEIGHTS: Mapping[str, float] = {
    **_WEIGHTS,
    **{f"aux_{name}": weight for name, weight in _WEIGHTS.items()},
    **{f"frame_{name}": weight for name, weight in compact_training.WEIGHTS.items()},
}

NONE = -1  # stands for the frame query of an instance that has none


class CompactClipTraining(TrainingTask):
    """Batch of clips -> named loss terms of the compact teacher, not yet weighted.

    With `freeze_frame` in the model's configuration the frame network stays as it is. Otherwise it also
    learns as the student does, with terms named frame_*.
    """

    model: CompactClip

    def __init__(self, model: CompactClip, weights: Mapping[str, float] = WEIGHTS) -> None:
        super().__init__()
        self.model = model
        self.normalise = family_of(model).preprocessing.normalise
        self.weights = dict(weights)
        if model.config.freeze_frame:
            model.frame.requires_grad_(False)
        self.learn_frame = None if model.config.freeze_frame else CompactTraining(model.frame)
        self.weighs_frames = self.learn_frame is not None

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        clips, frames_each = batch.frames.shape[:2]
        losses: dict[str, Tensor] = {}
        if self.learn_frame is not None:
            losses = {f"frame_{name}": value for name, value in self.learn_frame(batch).items()}
        with torch.set_grad_enabled(self.learn_frame is not None):
            frames = self.model.encode(self.normalise(batch.frames, batch.pad), batch.pad)
        targets = frame_targets(batch.tracks)
        tubes = TubeTargets.of(targets, clips, frames_each)
        frame_query, found = match_masks(frames.answer, frames.score.shape[2], targets)
        matched = frame_query.masked_fill(~found, NONE).unflatten(0, (clips, -1))  # [B, T, N]
        seeds = self.model.seeds(frames)
        own = tubes.own_seeds(matched, frames.score.shape[2], batch.draw(tubes.labels.shape[1]))
        main, extra = seeds.shape[1], own.shape[1]
        between = torch.zeros(1, main + extra, main + extra, device=seeds.device)
        between[:, :main, main:] = -math.inf
        answers = self.model.decode(frames, torch.cat([seeds, own], 1), between)
        query, found = match_clip(answers[-1], main, tubes)  # [B, N]
        taught, seeded = tubes.only(found), tubes.only((matched != NONE).any(1))
        seedless = (tubes.there & ~seeded.there).unsqueeze(2)
        terms: dict[str, list[Tensor]] = {}
        given = torch.arange(main, main + extra, device=seeds.device).expand(clips, -1)
        for answer in answers:
            stride = FINEST if answer is answers[-1] else 2 * FINEST
            parts = tube_terms(answer, query, taught, matched, stride)
            quality = tube_quality(answer, query, taught)
            unknown = unknown_tubes(answer, main, query, taught)
            parts["class"] = class_term(answer.logits[:, :main], query, quality, taught, unknown)
            parts |= {f"aux_{k}": v for k, v in tube_terms(answer, given, seeded, matched, stride).items()}
            quality = tube_quality(answer, given, seeded)
            logits = answer.logits[:, main:].masked_fill(seedless, -1e4)  # contributes nothing
            parts["aux_class"] = class_term(logits, given - main, quality, seeded)
            for name, value in parts.items():
                terms.setdefault(name, []).append(value)
        return losses | {name: torch.stack(values).mean() for name, values in terms.items()}


@dataclass(frozen=True, slots=True)
class TubeTargets:
    """Ground truth of B clips, padded to N instances."""

    labels: Tensor  # [B, N]
    masks: dict[int, Tensor]  # stride -> [B, T, N, h, w]
    visible: Tensor  # [B, T, N]
    ignore: Tensor | None = None  # [B, T, h, w] at stride 8, covered share of what is to be ignored

    @classmethod
    def of(cls, targets: FrameTargets, clips: int, frames: int) -> TubeTargets:
        masks = {stride: x.unflatten(0, (clips, frames)) for stride, x in targets.masks.items()}
        labels = targets.labels.unflatten(0, (clips, frames))[:, 0]
        ignore = None
        if targets.ignore is not None:
            ignore = F.avg_pool2d(targets.ignore, 2).unflatten(0, (clips, frames))
        return cls(labels, masks, targets.valid.unflatten(0, (clips, frames)), ignore)

    @property
    def there(self) -> Tensor:
        """[B, N] instances that some frame shows."""
        return self.visible.any(1)

    def only(self, chosen: Tensor) -> TubeTargets:
        """The same tubes, with only the chosen instances [B, N] in view."""
        return replace(self, visible=self.visible & chosen.unsqueeze(1))

    def own_seeds(self, matched: Tensor, frame_queries: int, chance: Tensor) -> Tensor:
        """For every instance [B, N] the frame query that was matched to it in some frame; matched [B, T, N].

        `chance` [B, N] in 0..1 selects the frame.
        """
        share = ((matched != NONE).float() + 1e-6).transpose(1, 2).cumsum(2)  # [B, N, T]
        frame = torch.searchsorted(share, chance.unsqueeze(-1) * share[..., -1:]).squeeze(-1)
        frame = frame.clamp(max=share.shape[2] - 1)
        query = matched.gather(1, frame.unsqueeze(1)).squeeze(1).clamp(min=0)
        return frame * frame_queries + query


@timed("matcher")
@torch.no_grad()
def match_clip(answer: ClipAnswer, main: int, tubes: TubeTargets) -> tuple[Tensor, Tensor]:
    """The clip query of each instance, by class and by the overlap of tubes, and whether it has one, both
    [B, N].

    It has none, and the query is 0, where there is no instance or there are too few queries.
    """
    b, t = tubes.visible.shape[:2]
    everyone = torch.arange(main, device=answer.logits.device).expand(b * t, -1)
    p = answer.frame.masks_at(everyone, 8).sigmoid().flatten(2).unflatten(0, (b, t))  # [B, T, C, hw]
    p = p * answer.presence[:, :, :main].sigmoid().unsqueeze(-1)
    truth = tubes.masks[8].flatten(3) * tubes.visible.unsqueeze(-1)  # [B, T, N, hw]
    shared = torch.einsum("btcx,btnx->bcn", p, truth)
    overlap = (2 * shared + 1) / (p.sum((1, 3)).unsqueeze(2) + truth.sum((1, 3)).unsqueeze(1) + 1)
    score = answer.logits[:, :main].float().sigmoid()
    named = score.gather(2, tubes.labels.unsqueeze(1).expand(-1, main, -1))
    cost = 5 * (1 - overlap) - 3 * named  # [B, C, N]
    return hungarian_rows(cost, tubes.there)


@torch.no_grad()
def tube_quality(answer: ClipAnswer, query: Tensor, tubes: TubeTargets) -> Tensor:
    """Overlap [B, N] of every instance's tube with that of its query [B, N]."""
    b, t = tubes.visible.shape[:2]
    every = query.unsqueeze(1).expand(-1, t, -1)  # [B, T, N]
    logits = answer.frame.masks_at(every.flatten(0, 1), 4).unflatten(0, (b, t))  # [B, T, N, h, w]
    logits = logits.masked_fill((answer.presence.gather(2, every) < 0)[..., None, None], -1.0)
    truth = tubes.masks[4] * tubes.visible[..., None, None]
    quality = mask_quality(logits.transpose(1, 2).flatten(0, 1), truth.transpose(1, 2).flatten(0, 1))
    return quality.unflatten(0, (b, -1))


@torch.no_grad()
def unknown_tubes(answer: ClipAnswer, main: int, query: Tensor, tubes: TubeTargets) -> Tensor | None:
    """[B, C] clip queries without an instance whose tubes lie in ignored areas, if there are any."""
    if tubes.ignore is None:
        return None
    b, t = tubes.visible.shape[:2]
    everyone = torch.arange(main, device=query.device).expand(b * t, -1)
    masks = answer.frame.masks_at(everyone, 8).unflatten(0, (b, t))  # [B, T, C, h, w]
    masks = masks.masked_fill((answer.presence[:, :, :main] < 0)[..., None, None], -1.0)
    unknown = lies_in(masks.transpose(1, 2), tubes.ignore)
    clip, instance = tubes.there.nonzero(as_tuple=True)
    unknown[clip, query[clip, instance]] = False
    return unknown


def class_term(
    logits: Tensor, query: Tensor, quality: Tensor, tubes: TubeTargets, unknown: Tensor | None = None
) -> Tensor:
    """Class scores that predict the quality of the tube; logits [B, C, K], query and quality [B, N].

    Queries that are `unknown` [B, C] learn nothing.
    """
    wanted = torch.zeros_like(logits, dtype=torch.float32)
    clip, instance = tubes.there.nonzero(as_tuple=True)
    wanted[clip, query[clip, instance], tubes.labels[clip, instance]] = quality[clip, instance]
    judged = quality_focal(logits, wanted)
    if unknown is not None:
        judged = judged.masked_fill(unknown.unsqueeze(2), 0.0)
    return judged.sum() / mean_over_ranks(tubes.there.sum(), logits.device).clamp(min=1)


def tube_terms(
    answer: ClipAnswer, query: Tensor, tubes: TubeTargets, matched: Tensor, stride: int
) -> dict[str, Tensor]:
    """Terms for presence, for the association with frame queries, and for masks; query [B, N].

    A mask grows around the place of its frame query, so it learns only where that one shows the instance.
    """
    b, t = tubes.visible.shape[:2]
    every = query.unsqueeze(1).expand(-1, t, -1)  # [B, T, N]
    there = tubes.there.unsqueeze(1).expand(-1, t, -1)
    presence = answer.presence.gather(2, every)[there]
    shown = tubes.visible[there].float()
    in_view = F.binary_cross_entropy_with_logits(presence, shown, reduction="sum")
    clip, frame, instance = tubes.visible.nonzero(as_tuple=True)
    count = mean_over_ranks(tubes.visible.sum(), presence.device).clamp(min=1)
    which = answer.association[clip, frame, every[clip, frame, instance]]
    wanted = matched[clip, frame, instance]
    right = tubes.visible & (answer.choice.gather(2, every) == matched)
    drawn = mean_over_ranks(right.sum(), presence.device).clamp(min=1)
    logits = answer.frame.masks_at(every.flatten(0, 1), stride).unflatten(0, (b, t))[right]
    truth = tubes.masks[stride][right]
    return {
        "presence": in_view / mean_over_ranks(there.sum(), presence.device).clamp(min=1),
        "mask": mask_bce(logits, truth).sum() / drawn,
        "dice": dice(logits, truth).sum() / drawn,
        "association": F.cross_entropy(which, wanted, ignore_index=NONE, reduction="sum") / count,
    }
