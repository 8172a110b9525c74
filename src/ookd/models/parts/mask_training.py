"""The training of models that classify masks, with "no object" as an extra class.

Each instance gets one query by Hungarian matching. That query learns its class and mask, all others learn
that they are no object. The published programs compare masks at sampled points; here all cells of stride 4
count.

Shapes: B clips, T frames, Q queries, K classes, N instances (padded), h w a grid of cells; R rows, each a
frame or a clip.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ookd.losses import dice, mask_bce, mean_over_ranks
from ookd.matching import hungarian_rows, mask_cost
from ookd.models.families import family_of
from ookd.models.parts.frame_targets import FrameTargets, frame_targets, lies_in
from ookd.models.parts.frame_training import FrameTraining, Judged, every_query
from ookd.models.protocols import OfflineModel, TrainingTask
from ookd.stopwatch import timed
from ookd.structures import Batch, FrameQueries

WEIGHTS: Mapping[str, float] = {"class": 2.0, "mask": 1.0, "dice": 5.0}
NO_OBJECT = 0.1  # weight of "no object" in the class term
STRIDE = 4  # of the masks that are compared
NOT_JUDGED = -100  # a class that the class term leaves out


class MaskFrameTraining(FrameTraining):
    """Frames -> named loss terms, not yet weighted."""

    usual_weights = WEIGHTS

    def judge(self, answer: FrameQueries, targets: FrameTargets, batch: Batch) -> Judged:
        masks = answer.masks(every_query(answer.logits))  # [F, Q, h, w]
        query, found = match(answer.logits, masks, targets.labels, targets.masks[STRIDE], targets.valid)
        unknown = None if targets.ignore is None else lies_in(masks, targets.ignore)
        terms = mask_terms(answer.logits, masks, targets.labels, targets.masks[STRIDE], query, found, unknown)
        return terms, query, found


class MaskClipTraining(TrainingTask):
    """Clips -> named loss terms, not yet weighted."""

    model: OfflineModel

    def __init__(self, model: OfflineModel, weights: Mapping[str, float] = WEIGHTS) -> None:
        super().__init__()
        self.model, self.weights = model, dict(weights)
        self.normalise = family_of(model).preprocessing.normalise

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        clips = batch.frames.shape[:2]
        answer = self.model(self.normalise(batch.frames, batch.pad), batch.pad)
        masks = answer.masks(every_query(answer.logits))  # [B, Q, T, h, w]
        targets = frame_targets(batch.tracks)
        labels = targets.labels.unflatten(0, clips)[:, 0]
        tubes = targets.masks[STRIDE].unflatten(0, clips).transpose(1, 2)  # [B, N, T, h, w]
        shown = targets.valid.unflatten(0, clips).any(1)
        query, found = match(answer.logits, masks, labels, tubes, shown)
        ignore = None if targets.ignore is None else targets.ignore.unflatten(0, clips)
        unknown = None if ignore is None else lies_in(masks, ignore)
        return mask_terms(answer.logits, masks, labels, tubes, query, found, unknown)


@timed("matcher")
@torch.no_grad()
def match(
    logits: Tensor, masks: Tensor, labels: Tensor, truth: Tensor, valid: Tensor
) -> tuple[Tensor, Tensor]:
    """The query of each instance and whether it has one, both [R, N].

    logits [R, Q, K + 1], masks [R, Q, ...], labels [R, N], truth [R, N, ...], valid [R, N].
    """
    probs = logits.float().softmax(-1)
    named = probs.gather(2, labels.unsqueeze(1).expand(-1, logits.shape[1], -1))  # [R, Q, N]
    cost = mask_cost(masks.float().flatten(2), truth.flatten(2)) - 2 * named
    return hungarian_rows(cost, valid)


def mask_terms(
    logits: Tensor,
    masks: Tensor,
    labels: Tensor,
    truth: Tensor,
    query: Tensor,
    found: Tensor,
    unknown: Tensor | None = None,
) -> dict[str, Tensor]:
    """The terms of matched queries; shapes as in `match`. Unmatched queries that are `unknown` [R, Q] learn
    nothing.
    """
    row, instance = found.nonzero(as_tuple=True)
    matched = query[row, instance]
    none = logits.shape[-1] - 1
    wanted = torch.full(logits.shape[:2], none, device=logits.device)
    if unknown is not None:
        wanted[unknown] = NOT_JUDGED
    wanted[row, matched] = labels[row, instance]
    weight = torch.ones(none + 1, device=logits.device)
    weight[none] = NO_OBJECT
    count = mean_over_ranks(found.sum(), found.device).clamp(min=1)
    own, true = masks[row, matched], truth[row, instance]
    return {
        "class": F.cross_entropy(
            logits.float().flatten(0, 1), wanted.flatten(), weight, ignore_index=NOT_JUDGED
        ),
        "mask": mask_bce(own, true).sum() / count,
        "dice": dice(own, true).sum() / count,
    }
