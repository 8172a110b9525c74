"""A family of models in one module: networks that find red, green and blue things, one query each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ookd.config.tracker import TrackerConfig
from ookd.models.families import family_of
from ookd.models.family import Family
from ookd.models.preprocess import Preprocessing
from ookd.models.protocols import ModelConfig, OnlineModel, State, TrainingTask
from ookd.structures import Batch, FrameQueries

STRIDE, QUERIES = 4, 3
WEIGHTS = {"mask": 1.0}


class BlobsConfig(ModelConfig):
    family: Literal["blobs"] = "blobs"
    classes: int = 3
    sureness: float = 2.0


class Blobs(OnlineModel):
    """Counts the frames of each stream: every frame makes it a little less sure."""

    config: BlobsConfig

    def __init__(self, config: BlobsConfig) -> None:
        super().__init__()
        self.config = config
        self.null = family_of(self).scores == "softmax"
        self.backbone = nn.Conv2d(3, QUERIES, 1)
        self.backbone.weight.data = 20 * (2 * torch.eye(QUERIES) - 1)[..., None, None]
        self.backbone.bias.data[:] = -10
        self.classify = nn.Parameter(torch.full((QUERIES, config.classes + self.null), -4.0))
        with torch.no_grad():
            self.classify[range(QUERIES), range(QUERIES)] = config.sureness

    def forward(
        self, frames: Tensor, pad: Tensor, state: State | None = None
    ) -> tuple[FrameQueries, State | None]:
        maps = self.backbone(F.avg_pool2d(frames, STRIDE))  # [B, Q, h, w]
        found = (maps > 0).any(-1).any(-1)
        logits = torch.where(found[..., None], self.classify, torch.full_like(self.classify, -4.0))
        if self.null:
            logits = torch.cat([logits[..., :-1], torch.where(found, -2.0, 9.0)[..., None]], -1)
        if state is not None:
            logits = logits - 0.1 * state["frames"][:, None]
            state = {"frames": state["frames"] + 1}
        embed = torch.diag_embed(4 + maps.amax((2, 3)).sigmoid())

        def masks(select: Tensor) -> Tensor:
            return maps.gather(1, select[..., None, None].expand(-1, -1, *maps.shape[2:]))

        return FrameQueries(logits, None, embed, embed, masks), state

    def begin(self, streams: int) -> State | None:
        return {"frames": torch.zeros(streams, 1)}


class BlobsTraining(TrainingTask):
    model: Blobs

    def __init__(self, model: Blobs, weights: Mapping[str, float] = WEIGHTS) -> None:
        super().__init__()
        self.model, self.weights = model, dict(weights)
        self.normalise = family_of(model).preprocessing.normalise

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Some query should cover whatever is an object."""
        frames, pad = batch.frames.flatten(0, 1), batch.pad.flatten(0, 1)
        answer, _ = self.model(self.normalise(frames, pad), pad)
        covered = answer.masks(torch.arange(QUERIES).expand(len(frames), -1)).amax(1)
        truth = torch.cat([clip.masks.any(0) for clip in batch.tracks]).float()
        return {"mask": F.binary_cross_entropy_with_logits(covered, F.avg_pool2d(truth, STRIDE))}


BLOBS = Family(
    name="blobs",
    config=BlobsConfig,
    network=Blobs,
    task=BlobsTraining,
    preprocessing=Preprocessing(mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0), multiple=16),
    loss_weights=WEIGHTS,
    presets={"blobs-tiny": BlobsConfig()},
    tracker=TrackerConfig(short_side=64, new_score=0.6),
    backbone="backbone.",
    dense=("backbone",),
)


# a variant that sees squares, carries nothing, and knows "no object" as a class of its own


class SquareBlobsConfig(BlobsConfig):
    family: Literal["square-blobs"] = "square-blobs"  # type: ignore[assignment]


class SquareBlobs(Blobs):
    def begin(self, streams: int) -> State | None:
        return None


SQUARE_BLOBS = replace(
    BLOBS,
    name="square-blobs",
    config=SquareBlobsConfig,
    network=SquareBlobs,
    preprocessing=replace(BLOBS.preprocessing, aspect="square"),
    presets={},
    scores="softmax",
)
