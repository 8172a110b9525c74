"""The configuration of the compact online student, which the others of its kind extend."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ookd.models.backbones.efficientnet_lite import Variant
from ookd.models.protocols import ModelConfig


class CompactConfig(ModelConfig):
    family: Literal["compact"] = "compact"
    trunk: Variant = Field("lite0", description="EfficientNet-Lite variant")
    frozen: int = Field(2, ge=0, le=7, description="trunk stages, stem included, that are not trained")
    width: int = Field(128, ge=16, description="channels of queries and of strides 16 and 32")
    fine_width: int = Field(
        64, ge=8, multiple_of=8, description="channels of stride 8, twice those of stride 4"
    )
    mask_width: int = Field(32, ge=8, description="channels of the mask features")
    embed: int = Field(64, ge=8, description="channels that the tracker compares")
    heads: int = Field(8, ge=1, description="attention heads")
    hidden: int = Field(512, ge=16, description="hidden channels of feed-forward blocks")
    layers: int = Field(3, ge=1, description="decoder layers")
    queries: int = Field(40, ge=1, description="places taken from the heat-map in each frame")
