"""What the rest of the package needs to know about a model family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from ookd.config.tracker import OfflineConfig, TrackerConfig
from ookd.models.label_sets import LABEL_SETS
from ookd.models.preprocess import Preprocessing
from ookd.models.protocols import ModelConfig, OfflineModel, OnlineModel, TrainingTask


@dataclass(frozen=True)
class Family:
    """The record of a family. `ookd.models.families` lists them."""

    name: str  # as in the `family` of its configurations
    config: type[ModelConfig]
    network: type[OnlineModel | OfflineModel]  # built from a configuration
    task: type[TrainingTask]  # built from a model and the weights of its loss terms
    preprocessing: Preprocessing
    loss_weights: Mapping[str, float]  # default weights of all loss terms
    tracker: TrackerConfig | OfflineConfig  # constants that turn queries into tracks
    backbone: str  # prefix of the pretrained parameters' names
    presets: Mapping[str, ModelConfig] = field(default_factory=dict)  # configurations by name
    # constants that were published for one benchmark, by the name of its label set
    tracker_variants: Mapping[str, TrackerConfig] = field(default_factory=dict)
    scores: Literal["sigmoid", "softmax"] = "sigmoid"  # softmax: the last column is "no object"
    # Modules that an int8 export computes in 8 bits, as patterns of their names in the network: the dense
    # ones work on all cells of a frame, the broad ones on all queries.
    dense: tuple[str, ...] = ()
    broad: tuple[str, ...] = ()

    @property
    def sees(self) -> Literal["frames", "clips"]:
        """Whether its models are online or offline."""
        return "clips" if issubclass(self.network, OfflineModel) else "frames"

    def published_constants(self, names: Sequence[str]) -> dict[str, Any]:
        """The tracker's constants that were published for models of these classes, where they differ."""
        benchmark = next((name for name, known in LABEL_SETS.items() if known == list(names)), "")
        published = self.tracker_variants.get(benchmark)
        return {} if published is None else published.model_dump(exclude_unset=True)

    def class_logits(self, logits: Tensor) -> Tensor:
        """A model's class output as logits [..., K] whose sigmoid is the probability."""
        if self.scores == "sigmoid":
            return logits
        known = logits.float().log_softmax(-1)[..., :-1]
        return known - torch.log1p(-known.exp().clamp(max=1 - 1e-7))
