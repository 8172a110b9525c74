"""The training of SeqFormer: one query is matched to one instance for all frames of a clip.

Wu et al., "SeqFormer: Sequential Transformer for Video Instance Segmentation", ECCV 2022, as released. In
frames that do not show an instance, its box is trained towards zeros and its mask towards empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from ookd.losses import mean_over_ranks, stride4
from ookd.matching import Match, match_tubes
from ookd.models.families import family_of
from ookd.models.parts.detection_losses import WEIGHTS as DETECTION_WEIGHTS
from ookd.models.parts.detection_losses import ClipTargets, detection_terms, name_layers, over_frames
from ookd.models.parts.placed_queries import WEIGHTS as PLACED_WEIGHTS
from ookd.models.parts.placed_queries import place_auxiliary, term_weights
from ookd.models.protocols import TrainingTask
from ookd.models.seqformer.model import SeqFormer
from ookd.structures import Batch, ClipQueries

WEIGHTS: Mapping[str, float] = {**DETECTION_WEIGHTS, **PLACED_WEIGHTS}


class SeqFormerTraining(TrainingTask):
    """Clips -> named loss terms, not yet weighted, and `class_error`, which is only reported."""

    model: SeqFormer

    def __init__(self, model: SeqFormer, weights: Mapping[str, float] = WEIGHTS) -> None:
        super().__init__()
        self.model = model
        self.normalise = family_of(model).preprocessing.normalise
        self.weights = term_weights(weights, model.config)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        targets = [
            ClipTargets(x.labels, x.boxes, stride4(x.masks), over_frames(x.ignore, pad))
            for x, pad in zip(batch.tracks, batch.pad, strict=True)
        ]
        count = mean_over_ranks(sum(len(x) for x in batch.tracks), batch.frames.device).clamp(min=1)
        answers, terms = self._answers(batch, targets)
        layers = []
        for answer in answers:
            matches = clip_matches(answer, targets)
            layers.append(detect(answer, matches, count, targets))
        return terms | name_layers(layers) | {"class_error": class_error(answers[-1], targets, matches)}

    def _answers(
        self, batch: Batch, targets: list[ClipTargets]
    ) -> tuple[list[ClipQueries], dict[str, Tensor]]:
        """The model's answers for the clips, and the terms of placed queries."""
        clip = self.normalise(batch.frames, batch.pad)
        if self.model.config.start == "learned":
            return self.model.layers(clip, batch.pad), {}
        frames, length = self.model.encode(clip, batch.pad), clip.shape[1]
        auxiliary = place_auxiliary(batch, batch.tracks, self.model.config.auxiliary)
        start = self.model.decoder.start(frames.memory, length, auxiliary.cells)
        answers = self.model.decode_layers(frames, length, start)
        terms = auxiliary.terms(start.heat, answers, partial(detect, targets=targets))
        return auxiliary.main(answers), terms


def detect(
    answer: ClipQueries, matches: list[Match], count: Tensor, targets: list[ClipTargets]
) -> dict[str, Tensor]:
    """Detection terms of one decoder layer."""
    assert answer.boxes is not None
    return detection_terms(answer.logits, answer.boxes, answer.masks, targets, matches, count)


def clip_matches(answer: ClipQueries, targets: Sequence[ClipTargets]) -> list[Match]:
    """One query for each instance, clip by clip."""
    assert answer.boxes is not None
    return [
        match_tubes(logits, boxes, target.labels, target.boxes)
        for logits, boxes, target in zip(answer.logits, answer.boxes, targets, strict=True)
    ]


@torch.no_grad()
def class_error(answer: ClipQueries, targets: Sequence[ClipTargets], matches: Sequence[Match]) -> Tensor:
    """Percentage of matched queries whose best class is wrong; 100 if there are none."""
    right = torch.cat(
        [
            logits[match.query].argmax(-1) == target.labels[match.instance]
            for logits, target, match in zip(answer.logits, targets, matches, strict=True)
        ]
    )
    return 100 - 100 * right.float().sum() / max(len(right), 1)
