"""How the compact student learns: Hungarian matching, and beside it queries that are placed inside the
objects.

Matching one query to one object gives few lessons a frame, so in training every frame gets auxiliary queries
at random places inside its objects. Each learns its object without matching. They see the main queries and
one another; the main queries do not see them, so that inference is not changed.

Shapes: B clips, T frames, F = B * T frames, Q main queries, A auxiliary ones, N instances (padded), h w
a grid of cells.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ookd.losses import dice, heatmap_focal, mask_bce, mask_quality, mean_over_ranks, quality_focal
from ookd.matching import hungarian
from ookd.models.compact.model import FINEST, Compact, CompactQueries, peaks
from ookd.models.families import family_of
from ookd.models.protocols import StudentTask
from ookd.stopwatch import timed
from ookd.structures import Batch, StudentMatches, Tracks

WEIGHTS: Mapping[str, float] = {
    "class": 1.5,
    "mask": 1.0,
    "dice": 5.0,
    "heat": 1.0,
    "embed": 1.0,
    "aux_class": 1.5,
    "aux_mask": 1.0,
    "aux_dice": 5.0,
}
TEMPERATURE = 20.0  # the tracker compares cosines times this, so training does too


@dataclass(slots=True)
class Targets:
    """Ground truth of F frames, padded to N instances."""

    labels: Tensor  # [F, N] int64
    masks: dict[int, Tensor]  # stride 2, 4, 8 -> [F, N, h, w] share of each cell that is covered
    valid: Tensor  # [F, N] bool: there, and in view


class CompactTraining(StudentTask):
    """Batch -> named loss terms, unweighted, of the compact student."""

    model: Compact

    def __init__(self, model: Compact, weights: Mapping[str, float] = WEIGHTS, auxiliary: int = 16) -> None:
        super().__init__()
        self.model = model
        self.normalise = family_of(model).preprocessing.normalise
        self.weights = dict(weights)
        self.auxiliary = auxiliary

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.learn(batch)[0]

    def learn(self, batch: Batch) -> tuple[dict[str, Tensor], StudentMatches]:
        """The terms, and what the student answered for the frames it saw."""
        batch = batch.seen_by_student()
        t = batch.frames.shape[1]
        frames, pad = batch.frames.flatten(0, 1), batch.pad.flatten(0, 1)
        targets = frame_targets(batch.tracks)
        pixels = self.model.encoder(self.normalise(frames, pad), pad)
        main = peaks(pixels, self.model.config.queries)
        extra, owner = places_inside(targets, batch.draw(t, self.auxiliary, 2).flatten(0, 1))
        q = main.shape[1]
        between = torch.zeros(1, q + self.auxiliary, q + self.auxiliary, device=frames.device)
        between[:, :q, q:] = -math.inf
        answers = self.model.decode(pixels, torch.cat([main, extra], 1), between)

        query, found = match(answers[-1], q, targets)  # [F, N]
        terms: dict[str, list[Tensor]] = {}
        owned = targets.valid.gather(1, owner)
        for answer in answers:
            stride = FINEST if answer is answers[-1] else 2 * FINEST
            for name, value in self._supervise(answer, query, found, targets, stride).items():
                terms.setdefault(name, []).append(value)
            places = torch.arange(q, q + self.auxiliary, device=frames.device).expand(len(owner), -1)
            picked = Targets(targets.labels.gather(1, owner), targets.masks, owned)
            for name, value in self._supervise_auxiliary(answer, places, owner, picked, stride).items():
                terms.setdefault(name, []).append(value)
        losses = {name: torch.stack(values).mean() for name, values in terms.items()}
        losses["heat"] = heat_loss(pixels.heat, targets)
        losses["embed"] = contrast(answers[-1].embed[:, :q], main, query, found, targets.masks[4], t)
        return losses, StudentMatches(answers[-1], query, found)

    def _supervise(
        self, answer: CompactQueries, query: Tensor, found: Tensor, targets: Targets, stride: int
    ) -> dict[str, Tensor]:
        q = answer.logits.shape[1] - self.auxiliary
        wanted = torch.zeros_like(answer.logits[:, :q], dtype=torch.float32)
        frame, instance = found.nonzero(as_tuple=True)
        count = mean_over_ranks(found.sum(), found.device).clamp(min=1)
        masks = answer.masks_at(query, stride)[frame, instance]
        truth = targets.masks[stride][frame, instance]
        label = targets.labels[frame, instance]
        wanted[frame, query[frame, instance], label] = mask_quality(masks, truth)
        return {
            "class": quality_focal(answer.logits[:, :q], wanted).sum() / count,
            "mask": mask_bce(masks, truth).sum() / count,
            "dice": dice(masks, truth).sum() / count,
        }

    def _supervise_auxiliary(
        self, answer: CompactQueries, places: Tensor, owner: Tensor, picked: Targets, stride: int
    ) -> dict[str, Tensor]:
        frame, extra = picked.valid.nonzero(as_tuple=True)
        count = mean_over_ranks(picked.valid.sum(), owner.device).clamp(min=1)
        logits = answer.logits[frame, places[frame, extra]]
        masks = answer.masks_at(places, stride)[frame, extra]
        truth = picked.masks[stride][frame, owner[frame, extra]]
        wanted = F.one_hot(picked.labels[frame, extra], logits.shape[-1])
        wanted = wanted * mask_quality(masks, truth).unsqueeze(1)
        return {
            "aux_class": quality_focal(logits, wanted).sum() / count,
            "aux_mask": mask_bce(masks, truth).sum() / count,
            "aux_dice": dice(masks, truth).sum() / count,
        }


def frame_targets(tracks: list[Tracks]) -> Targets:
    """Ground truth of the batch's clips, frame by frame."""
    most = max(1, *(len(x) for x in tracks)) if tracks else 1

    def padded(x: Tensor) -> Tensor:  # [n, ...] -> [most, ...]
        return F.pad(x, [0, 0] * (x.dim() - 1) + [0, most - len(x)])

    labels, masks, valid = [], [], []
    for clip in tracks:
        frames = clip.visible.shape[1]
        soft = F.avg_pool2d(clip.masks.float(), FINEST)
        masks.append(padded(soft).transpose(0, 1))
        valid.append(padded(clip.visible).T)
        labels.append(padded(clip.labels).expand(frames, -1))
    pyramid = {FINEST: torch.cat(masks)}
    for stride in (4, 8):
        pyramid[stride] = F.avg_pool2d(pyramid[stride // 2], 2)
    return Targets(torch.cat(labels), pyramid, torch.cat(valid))


def places_inside(targets: Targets, chance: Tensor) -> tuple[Tensor, Tensor]:
    """A random place inside a random visible instance for each of A rows of chance [F, A, 2] in 0..1.

    The places [F, A, 2] as x, y in 0..1, and whose they are [F, A].
    """
    masks = targets.masks[4]
    height, width = masks.shape[-2:]
    share = (targets.valid.float() + 1e-6).cumsum(1)  # [F, N]
    owner = torch.searchsorted(share, chance[..., 0] * share[:, -1:]).clamp(max=share.shape[1] - 1)
    frame = torch.arange(len(owner), device=owner.device).unsqueeze(1)
    inside = (masks.flatten(2) + 1e-9).cumsum(2)[frame, owner]  # [F, A, hw]
    cell = torch.searchsorted(inside, chance[..., 1:] * inside[..., -1:]).squeeze(-1)
    cell = cell.clamp(max=height * width - 1)
    x, y = cell % width, torch.div(cell, width, rounding_mode="floor")
    return torch.stack([(x + 0.5) / width, (y + 0.5) / height], -1), owner


@timed("matcher")
@torch.no_grad()
def match(answer: CompactQueries, main: int, targets: Targets) -> tuple[Tensor, Tensor]:
    """The main query [F, N] of each instance by class and mask, and whether it has one [F, N].

    It has none, and 0 says nothing, where it is not in view or the queries do not suffice for all.
    """
    frames, count = targets.valid.shape
    everyone = torch.arange(main, device=answer.logits.device).expand(frames, -1)
    logits = answer.masks_at(everyone, 4).flatten(2)  # [F, Q, hw]
    truth = targets.masks[4].flatten(2)  # [F, N, hw]
    p = logits.sigmoid()
    shared = p @ truth.transpose(1, 2)
    overlap = (2 * shared + 1) / (p.sum(2, keepdim=True) + truth.sum(2).unsqueeze(1) + 1)
    entropy = F.softplus(logits).mean(2, keepdim=True) - logits @ truth.transpose(1, 2) / logits.shape[2]
    score = answer.logits[:, :main].float().sigmoid()
    named = score.gather(2, targets.labels.unsqueeze(1).expand(-1, main, -1))
    cost = 5 * (1 - overlap) + 5 * entropy - 3 * named  # [F, Q, N]
    query = torch.zeros(frames, count, dtype=torch.long)
    found = torch.zeros(frames, count, dtype=torch.bool)
    for index, valid in enumerate(targets.valid.cpu()):
        there = valid.nonzero()[:, 0]
        matched = hungarian(cost[index][:, there])
        instance = there[matched.instance.cpu()]
        query[index, instance], found[index, instance] = matched.query.cpu(), True
    return query.to(cost.device), found.to(cost.device)


def heat_loss(logits: Tensor, targets: Targets) -> Tensor:
    """Focal loss of the class heat-map [F, K, h, w] towards a peak at the middle of every instance."""
    masks = targets.masks[8]
    height, width = masks.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=masks.device), torch.arange(width, device=masks.device), indexing="ij"
    )
    area = masks.sum((2, 3)).clamp(min=1e-3)
    cy = (masks * y).sum((2, 3)) / area
    cx = (masks * x).sum((2, 3)) / area
    away = (y - cy[..., None, None]) ** 2 + (x - cx[..., None, None]) ** 2
    inside = torch.where(masks >= masks.amax((2, 3), keepdim=True).clamp(max=0.5), away, torch.inf)
    cell = inside.flatten(2).argmin(2)  # [F, N] the covered cell nearest to the centroid
    py, px = torch.div(cell, width, rounding_mode="floor"), cell % width
    spread = (area.sqrt() / 5).clamp(min=0.7)[..., None, None]
    distance = (y - py[..., None, None]) ** 2 + (x - px[..., None, None]) ** 2
    blob = torch.exp(-distance / (2 * spread**2)) * targets.valid[..., None, None]  # [F, N, h, w]
    heat = torch.zeros(logits.shape, device=logits.device)
    index = targets.labels[..., None, None].expand_as(blob)
    heat.scatter_reduce_(1, index, blob, "amax")
    return heatmap_focal(logits, heat).sum() / mean_over_ranks(targets.valid.sum(), heat.device).clamp(min=1)


def contrast(
    embed: Tensor, places: Tensor, query: Tensor, found: Tensor, masks: Tensor, frames: int
) -> Tensor:
    """Every instance that has a query [F, N] must find itself among all queries of every other frame of its
    clip; masks [F, N, h, w].

    A query without an instance that stands inside the mask of the instance in question is neither right nor
    wrong.
    """
    f, q = embed.shape[:2]
    height, width = masks.shape[-2:]
    cell = (places[..., 1] * height).long() * width + (places[..., 0] * width).long()  # [F, Q]
    inside = masks.flatten(2).gather(2, cell.unsqueeze(1).expand(-1, query.shape[1], -1)) > 0.5
    taken = torch.zeros(f, q, dtype=torch.bool, device=embed.device)
    frame, instance = found.nonzero(as_tuple=True)
    taken[frame, query[frame, instance]] = True
    unsure = inside & ~taken.unsqueeze(1)  # [F, N, Q]
    unit = F.normalize(embed.float(), dim=-1).unflatten(0, (-1, frames))  # [B, T, Q, D]
    anchors = unit.gather(
        2, query.unflatten(0, (-1, frames)).unsqueeze(-1).expand(-1, -1, -1, unit.shape[-1])
    )
    logits = TEMPERATURE * torch.einsum("bind,bjqd->bijnq", anchors, unit)  # [B, T, T, N, Q]
    logits = logits.masked_fill(unsure.unflatten(0, (-1, frames)).unsqueeze(1), -math.inf)
    valid = found.unflatten(0, (-1, frames))
    both = valid.unsqueeze(2) & valid.unsqueeze(1)  # [B, T, T, N]
    both &= ~torch.eye(frames, dtype=torch.bool, device=embed.device)[None, :, :, None]
    wanted = query.unflatten(0, (-1, frames)).unsqueeze(1).expand(-1, frames, -1, -1)
    return F.cross_entropy(logits[both], wanted[both], reduction="sum") / mean_over_ranks(
        both.sum(), both.device
    ).clamp(min=1)
