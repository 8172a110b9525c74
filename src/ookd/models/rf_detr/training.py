"""The training of the embedding head on the frozen detector.

Queries are matched to the instances by class and mask. An instance must then be recognised, by the head's
embeddings, among all queries of every other frame of its clip.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ookd.errors import UserError
from ookd.matching import hungarian_rows, mask_cost
from ookd.models.parts.contrast import contrast_loss
from ookd.models.parts.frame_targets import FrameTargets
from ookd.models.parts.frame_training import FrameTraining, Judged, every_query
from ookd.models.preprocess import unpadded_sizes
from ookd.models.rf_detr.model import RfDetr
from ookd.stopwatch import timed
from ookd.structures import Batch, FrameQueries

WEIGHTS: Mapping[str, float] = {"embed": 1.0}
STRIDE = 4  # of the masks that are compared


class RfDetrTraining(FrameTraining):
    """Batch -> the loss term of the embeddings."""

    usual_weights = WEIGHTS

    def __init__(self, model: RfDetr, weights: Mapping[str, float] | None = None) -> None:
        if not model.config.embed:
            raise UserError(
                "rf-detr: the detector is frozen, and this model has no embedding head to train; "
                "give it one with model.change={embed: 128}"
            )
        super().__init__(model, weights)

    def judge(self, answer: FrameQueries, targets: FrameTargets, batch: Batch) -> Judged:
        query, found = match_detections(answer, targets)
        assert answer.boxes is not None
        height, width = batch.pad.shape[-2:]
        share = unpadded_sizes(batch.pad.flatten(0, 1)) / torch.tensor(
            [width, height], device=batch.pad.device
        )
        places = answer.boxes[..., :2].clamp(0, 1) * share.unsqueeze(1)
        term = contrast_loss(answer.embed, places, query, found, targets.masks[STRIDE], batch.frames.shape[1])
        return {"embed": term}, query, found


@timed("matcher")
@torch.no_grad()
def match_detections(answer: FrameQueries, targets: FrameTargets) -> tuple[Tensor, Tensor]:
    """The query of each instance and whether it has one, both [F, N]."""
    queries = answer.logits.shape[1]
    masks = answer.masks(every_query(answer.logits)).float().flatten(2)
    score = answer.logits.float().sigmoid()
    named = score.gather(2, targets.labels.unsqueeze(1).expand(-1, queries, -1))
    return hungarian_rows(mask_cost(masks, targets.masks[STRIDE].flatten(2)) - 3 * named, targets.valid)
