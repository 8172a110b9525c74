"""The training of placed queries: a heat-map of centres, and auxiliary queries inside the objects.

Only the queries that are matched to an instance learn a box and a mask. So in training more queries are
placed at random inside the instances, and each learns the instance at its place, without matching. The main
queries do not see them, and there are none at inference.

Shapes: B clips, T frames, A auxiliary queries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from ookd.losses import mean_over_ranks
from ookd.matching import Match
from ookd.models.parts.detection_losses import WEIGHTS as DETECTION_WEIGHTS
from ookd.models.parts.detection_losses import layer_weights, name_layers
from ookd.models.parts.frame_targets import FrameTargets, frame_targets, heat_loss, places_inside
from ookd.models.parts.grid import cells_at
from ookd.models.parts.pixel_encoder import DeformableConfig
from ookd.structures import Batch, ClipQueries, FrameQueries, Tracks

WEIGHTS: Mapping[str, float] = {
    "heat": 1.0,
    **{f"aux_{name}": weight for name, weight in DETECTION_WEIGHTS.items()},
}
HEAT_STRIDE = 8

Answer = TypeVar("Answer", FrameQueries, ClipQueries)


@dataclass(slots=True)
class AuxiliaryQueries:
    """The auxiliary queries of a batch and their ground truth."""

    targets: FrameTargets
    cells: Tensor  # [B, A] among the T * h * w cells of the finest level
    matches: list[Match]  # B: auxiliary queries and the instances at their places

    def terms(
        self,
        heat: Tensor,
        answers: Sequence[Answer],
        supervise: Callable[[Answer, list[Match], Tensor], dict[str, Tensor]],
    ) -> dict[str, Tensor]:
        """The terms besides the published ones: of the heat map, and of the last A queries of every decoder
        layer. `supervise` gives their detection terms, divided by a count.
        """
        count = mean_over_ranks(sum(len(match.query) for match in self.matches), heat.device).clamp(min=1)
        extra = self.cells.shape[1]
        layers = []
        for answer in answers:
            own = narrow(answer, answer.logits.shape[1] - extra, extra)
            found = supervise(own, self.matches, count)
            layers.append({f"aux_{name}": term for name, term in found.items()})
        return {"heat": heat_loss(heat, self.targets), **name_layers(layers)}

    def main(self, answers: Sequence[Answer]) -> list[Answer]:
        """The answers of the main queries, which exist at inference too."""
        extra = self.cells.shape[1]
        return [narrow(answer, 0, answer.logits.shape[1] - extra) for answer in answers]


def term_weights(
    weights: Mapping[str, float], config: DeformableConfig, last_only: Sequence[str] = ()
) -> dict[str, float]:
    """Weights of the terms for this configuration, for every decoder layer."""
    learned = {
        name: weight for name, weight in weights.items() if config.start == "peaks" or name not in WEIGHTS
    }
    return layer_weights(learned, config.decoder_layers, (*last_only, "heat"))


def place_auxiliary(batch: Batch, tracks: Sequence[Tracks], count: int) -> AuxiliaryQueries:
    """Queries at random places inside the instances of `tracks`, in each frame of a clip in turn."""
    targets = frame_targets(list(tracks))
    clips, frames = len(tracks), tracks[0].visible.shape[1]
    places, owner = places_inside(targets, batch.draw(count, 2).repeat_interleave(frames, 0))  # [B * T, A]
    height, width = targets.masks[HEAT_STRIDE].shape[-2:]
    cell = cells_at(places, (height, width))
    number = torch.arange(count, device=cell.device)
    turn = number % frames

    def in_turn(x: Tensor) -> Tensor:
        return x.unflatten(0, (clips, frames))[:, turn, number]

    owner, there = in_turn(owner), in_turn(targets.valid.gather(1, owner))
    matches = [Match(number[valid], whose[valid]) for whose, valid in zip(owner, there, strict=True)]
    return AuxiliaryQueries(targets, turn * height * width + in_turn(cell), matches)


def narrow(answer: Answer, first: int, count: int) -> Answer:
    """Some consecutive queries of an answer."""
    names = ("logits", "boxes", "embed", "features", "frame_features")
    rows = {name: getattr(answer, name).narrow(-2, first, count) for name in names if hasattr(answer, name)}
    return replace(answer, masks=lambda select: answer.masks(select + first), **rows)
