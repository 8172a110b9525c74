"""The training of the compact student: Hungarian matching, and auxiliary queries inside the objects.

With matching alone, only one query an object learns from a frame. So in training every frame also gets
auxiliary queries at random places inside its objects. Each learns its object without matching. They see the
main queries and one another, but the main queries do not see them, so inference does not change.

Shapes: B clips, T frames, F = B * T frames, Q main queries, A auxiliary ones, N instances (padded), h w
a grid of cells.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ookd.losses import dice, mask_bce, mask_quality, mean_over_ranks, quality_focal
from ookd.matching import hungarian_rows, mask_cost
from ookd.models.compact.encoder import PixelFeatures
from ookd.models.compact.model import Compact, CompactQueries, peak_places
from ookd.models.families import family_of
from ookd.models.parts.contrast import contrast_loss
from ookd.models.parts.frame_targets import (
    FINEST,
    FrameTargets,
    frame_targets,
    heat_loss,
    lies_in,
    places_inside,
)
from ookd.models.protocols import StudentTask
from ookd.stopwatch import timed
from ookd.structures import Batch, StudentMatches

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


class CompactTraining(StudentTask):
    """Batch -> named loss terms of the compact student, not yet weighted."""

    model: Compact

    def __init__(self, model: Compact, weights: Mapping[str, float] = WEIGHTS, auxiliary: int = 16) -> None:
        super().__init__()
        self.model = model
        self.normalise = family_of(model).preprocessing.normalise
        self.weights = dict(weights)
        self.auxiliary = auxiliary
        self.weighs_frames = True

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.learn(batch)[0]

    def learn(self, batch: Batch) -> tuple[dict[str, Tensor], StudentMatches]:
        """The terms, and the student's answer for its frames, matched to the instances."""
        terms, matches, _ = self.learn_frames(batch.seen_by_student())
        return terms, matches

    def learn_frames(self, batch: Batch) -> tuple[dict[str, Tensor], StudentMatches, PixelFeatures]:
        """The same for all frames of a batch, and what the encoder made of them."""
        t = batch.frames.shape[1]
        frames, pad = batch.frames.flatten(0, 1), batch.pad.flatten(0, 1)
        targets = frame_targets(batch.tracks)
        pixels = self.model.encoder(self.normalise(frames, pad), pad)
        main = peak_places(pixels, self.model.config.queries)
        extra, owner = places_inside(targets, batch.draw(t, self.auxiliary, 2).flatten(0, 1))
        q = main.shape[1]
        between = torch.zeros(1, q + self.auxiliary, q + self.auxiliary, device=frames.device)
        between[:, :q, q:] = -math.inf
        answers = self.model.decode(pixels, torch.cat([main, extra], 1), between)

        query, found = match_masks(answers[-1], q, targets)  # [F, N]
        terms: dict[str, list[Tensor]] = {}
        owned = targets.valid.gather(1, owner)
        for answer in answers:
            stride = FINEST if answer is answers[-1] else 2 * FINEST
            for name, value in self._main_terms(answer, query, found, targets, stride).items():
                terms.setdefault(name, []).append(value)
            places = torch.arange(q, q + self.auxiliary, device=frames.device).expand(len(owner), -1)
            picked = replace(targets, labels=targets.labels.gather(1, owner), valid=owned)
            for name, value in self._auxiliary_terms(answer, places, owner, picked, stride).items():
                terms.setdefault(name, []).append(value)
        losses = {name: torch.stack(values).mean() for name, values in terms.items()}
        losses["heat"] = heat_loss(pixels.heat, targets)
        losses["embed"] = contrast_loss(answers[-1].embed[:, :q], main, query, found, targets.masks[4], t)
        return losses, StudentMatches(answers[-1], query, found), pixels

    def _main_terms(
        self, answer: CompactQueries, query: Tensor, found: Tensor, targets: FrameTargets, stride: int
    ) -> dict[str, Tensor]:
        q = answer.logits.shape[1] - self.auxiliary
        wanted = torch.zeros_like(answer.logits[:, :q], dtype=torch.float32)
        frame, instance = found.nonzero(as_tuple=True)
        count = mean_over_ranks(found.sum(), found.device).clamp(min=1)
        masks = answer.masks_at(query, stride)[frame, instance]
        truth = targets.masks[stride][frame, instance]
        label = targets.labels[frame, instance]
        wanted[frame, query[frame, instance], label] = mask_quality(masks, truth)
        judged = quality_focal(answer.logits[:, :q], wanted)
        if targets.ignore is not None:
            everyone = torch.arange(q, device=query.device).expand(len(query), -1)
            unknown = lies_in(answer.masks_at(everyone, 4), targets.ignore)
            unknown[frame, query[frame, instance]] = False
            judged = judged.masked_fill(unknown.unsqueeze(2), 0.0)
        bce, overlap = mask_bce(masks, truth), dice(masks, truth)
        if targets.weights is not None:
            weight = targets.weights[frame, instance]
            of_query = torch.ones_like(judged[..., 0])
            of_query[frame, query[frame, instance]] = weight
            judged, bce, overlap = judged * of_query.unsqueeze(2), bce * weight, overlap * weight
        return {"class": judged.sum() / count, "mask": bce.sum() / count, "dice": overlap.sum() / count}

    def _auxiliary_terms(
        self, answer: CompactQueries, places: Tensor, owner: Tensor, picked: FrameTargets, stride: int
    ) -> dict[str, Tensor]:
        frame, extra = picked.valid.nonzero(as_tuple=True)
        count = mean_over_ranks(picked.valid.sum(), owner.device).clamp(min=1)
        logits = answer.logits[frame, places[frame, extra]]
        masks = answer.masks_at(places, stride)[frame, extra]
        truth = picked.masks[stride][frame, owner[frame, extra]]
        wanted = F.one_hot(picked.labels[frame, extra], logits.shape[-1])
        wanted = wanted * mask_quality(masks, truth).unsqueeze(1)
        judged, bce, overlap = quality_focal(logits, wanted), mask_bce(masks, truth), dice(masks, truth)
        if picked.weights is not None:
            weight = picked.weights[frame, owner[frame, extra]]
            judged, bce, overlap = judged * weight.unsqueeze(1), bce * weight, overlap * weight
        return {
            "aux_class": judged.sum() / count,
            "aux_mask": bce.sum() / count,
            "aux_dice": overlap.sum() / count,
        }


@timed("matcher")
@torch.no_grad()
def match_masks(answer: CompactQueries, main: int, targets: FrameTargets) -> tuple[Tensor, Tensor]:
    """The main query of each instance by class and mask, and whether it has one, both [F, N].

    It has none, and the query is 0, where it is not in view or there are too few queries.
    """
    everyone = torch.arange(main, device=answer.logits.device).expand(len(targets.valid), -1)
    logits = answer.masks_at(everyone, 4).flatten(2)  # [F, Q, hw]
    score = answer.logits[:, :main].float().sigmoid()
    named = score.gather(2, targets.labels.unsqueeze(1).expand(-1, main, -1))
    cost = mask_cost(logits, targets.masks[4].flatten(2)) - 3 * named  # [F, Q, N]
    return hungarian_rows(cost, targets.valid)
