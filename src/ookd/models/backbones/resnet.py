"""ResNet with frozen batch norm, as detection models use it: stride on the 3x3 convolution."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, Field
from torch import Tensor, nn

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
EXPANSION = 4


class ResNetConfig(BaseModel, frozen=True, extra="forbid"):
    kind: Literal["resnet"] = "resnet"
    depth: Literal[50, 101] = 50
    width: int = Field(
        default=64, ge=1
    )  # channels of the stem; res2 has 4 times as many, each next stage twice that
    frozen_stages: int = Field(default=2, ge=0, le=5)  # 1: the stem is not trained; 2: nor is res2; ...


class FrozenBatchNorm(nn.Module):
    """Batch norm with the statistics of pre-training, which small batches could not estimate."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=1e-5)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, FrozenBatchNorm(outputs))


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, inner: int, stride: int, shortcut: bool) -> None:
        super().__init__()
        outputs = inner * EXPANSION
        self.conv1 = _conv(inputs, inner, 1)
        self.conv2 = _conv(inner, inner, 3, stride)
        self.conv3 = _conv(inner, outputs, 1)
        self.shortcut = _conv(inputs, outputs, 1, stride) if shortcut else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv3(self.conv2(self.conv1(x).relu()).relu())
        return torch.relu(out + self.shortcut(x))


class ResNet(nn.Module):
    """Frames [B, 3, H, W] -> the maps of res3, res4, res5: strides 8, 16, 32."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = _conv(3, config.width, 7, 2)
        self.stages = nn.ModuleDict()
        inputs = config.width
        for stage, blocks in enumerate(BLOCKS[config.depth]):
            inner = config.width * 2**stage
            layers: list[nn.Module] = []
            for block in range(blocks):
                layers.append(Bottleneck(inputs, inner, 2 if stage and not block else 1, shortcut=not block))
                inputs = inner * EXPANSION
            self.stages[f"res{stage + 2}"] = nn.Sequential(*layers)
        self.channels = [config.width * EXPANSION * factor for factor in (2, 4, 8)]
        for part in [self.stem, *self.stages.values()][: config.frozen_stages]:
            part.requires_grad_(False)

    def forward(self, frames: Tensor) -> list[Tensor]:
        x = F.max_pool2d(self.stem(frames).relu(), 3, 2, 1)
        maps = []
        for stage in self.stages.values():
            x = stage(x)
            maps.append(x)
        return maps[1:]
