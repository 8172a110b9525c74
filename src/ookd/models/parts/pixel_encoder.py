"""The pixel encoder, one frame at a time: backbone, projections, deformable encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from ookd.models.backbones.build import BackboneConfig, Pretrained, build
from ookd.models.backbones.resnet import ResNetConfig
from ookd.models.parts.deformable import DeformableAttention, Levels
from ookd.models.parts.feed_forward import ResidualFeedForward
from ookd.models.parts.position import sine_code
from ookd.models.protocols import ModelConfig

LEVELS = 4  # the backbone's three, and one of stride 64


class DeformableConfig(ModelConfig):
    """The common configuration of IDOL and SeqFormer."""

    backbone: BackboneConfig = ResNetConfig()
    queries: int = Field(default=300, ge=1)
    dim: int = Field(default=256, ge=64, multiple_of=32)
    heads: int = Field(default=8, ge=1)
    points: int = Field(default=4, ge=1)  # a head, level and query
    encoder_layers: int = Field(default=6, ge=1)
    decoder_layers: int = Field(default=6, ge=1)
    ffn: int = Field(default=1024, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    start: Literal["learned", "peaks"] = "learned"  # of queries: learned codes, or the peaks of a heat-map
    auxiliary: int = Field(default=0, ge=0)  # queries inside true objects, in training only; needs peaks

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.auxiliary and self.start != "peaks":
            raise ValueError("auxiliary queries need start: peaks")
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} does not split into {self.heads} heads")
        return self


@dataclass(slots=True)
class EncoderMemory:
    """The encoder's output: one token for each cell of every level."""

    tokens: Tensor  # [B, S, D]
    levels: Levels

    def maps(self) -> list[Tensor]:
        """The tokens as L maps [B, D, h, w], finest first."""
        sizes = [h * w for h, w in self.levels.shapes]
        pairs = zip(self.tokens.split(sizes, 1), self.levels.shapes, strict=True)
        # rows and columns first: OpenVINO computes `transpose(1, 2).unflatten(-1, shape)` wrongly here
        return [tokens.unflatten(1, shape).permute(0, 3, 1, 2) for tokens, shape in pairs]


class EncoderLayer(nn.Module):
    def __init__(self, config: DeformableConfig) -> None:
        super().__init__()
        self.attention = DeformableAttention(config.dim, config.heads, LEVELS, config.points)
        self.norm = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.feed_forward = ResidualFeedForward(config.dim, config.ffn, config.dropout)

    def forward(self, tokens: Tensor, position: Tensor, reference: Tensor, levels: Levels) -> Tensor:
        attended = self.attention(tokens + position, reference, tokens, levels)
        return self.feed_forward(self.norm(tokens + self.dropout(attended)))


class PixelEncoder(nn.Module):
    """Normalised frames [B, 3, H, W] and their pad masks [B, H, W] -> EncoderMemory.

    `extra_pad` selects what the pad mask of the stride-64 level is resized from: the stride-8 mask in IDOL,
    the image's mask in SeqFormer. For padded frames the two can differ by a cell.
    """

    def __init__(self, config: DeformableConfig, extra_pad: Literal["image", "stride 8"]) -> None:
        super().__init__()
        self.extra_pad = extra_pad
        self.backbone = build(config.backbone)
        channels = self.backbone.channels
        convs = [nn.Conv2d(inputs, config.dim, 1) for inputs in channels]
        convs.append(nn.Conv2d(channels[-1], config.dim, 3, stride=2, padding=1))  # from the coarsest map
        self.projections = nn.ModuleList()
        for conv in convs:
            nn.init.xavier_uniform_(conv.weight)
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)
            self.projections.append(nn.Sequential(conv, nn.GroupNorm(32, config.dim)))
        self.level_code = nn.Parameter(torch.randn(LEVELS, config.dim))
        self.layers = nn.ModuleList([EncoderLayer(config) for _ in range(config.encoder_layers)])

    def forward(self, frames: Tensor, pad: Tensor, clip_length: int = 1) -> EncoderMemory:
        """In clips of more than one frame, the first frame's padding gives the valid share of all."""
        maps = self.backbone(frames)
        pairs = zip(self.projections, [*maps, maps[-1]], strict=True)
        maps = [project(x) for project, x in pairs]  # L x [B, D, h, w]
        pads = self.level_pads(pad, [(x.shape[-2], x.shape[-1]) for x in maps])
        position = [
            (sine_code(level_pad, x.shape[1]).to(x.dtype) + code[:, None, None]).flatten(2).transpose(1, 2)
            for x, level_pad, code in zip(maps, pads, self.level_code, strict=True)
        ]
        levels = Levels(
            shapes=tuple((x.shape[-2], x.shape[-1]) for x in maps),
            pad=torch.cat([level_pad.flatten(1) for level_pad in pads], 1),
            valid=torch.stack(
                [valid_share(level_pad[::clip_length]) for level_pad in pads], 1
            ).repeat_interleave(clip_length, 0),
        )
        tokens = torch.cat([x.flatten(2).transpose(1, 2) for x in maps], 1)
        positions, reference = torch.cat(position, 1), levels.spread(cell_centres(levels))
        for layer in self.layers:
            tokens = layer(tokens, positions, reference, levels)
        return EncoderMemory(tokens, levels)

    def load_pretrained(self) -> None:
        """Take pretrained weights of the backbone, if its configuration names a source."""
        if isinstance(self.backbone, Pretrained):
            self.backbone.load_pretrained()

    def level_pads(self, pad: Tensor, shapes: list[tuple[int, int]]) -> list[Tensor]:
        """The pad mask [B, H, W] at every level, by nearest neighbour."""
        pads = [resize_pad(pad, shape) for shape in shapes[:-1]]
        return [*pads, resize_pad(pad if self.extra_pad == "image" else pads[0], shapes[-1])]


def resize_pad(pad: Tensor, shape: tuple[int, int]) -> Tensor:
    return F.interpolate(pad[:, None].float(), shape)[:, 0].bool()


def valid_share(pad: Tensor) -> Tensor:
    """[B, 2] share of the first row and of the first column of [B, h, w] that is not padding."""
    inside = (~pad).float()
    return torch.stack([inside[:, 0, :].mean(-1), inside[:, :, 0].mean(-1)], -1)


def cell_centres(levels: Levels) -> Tensor:
    """[B, S, 2] centre of every token's cell, in 0..1 of the unpadded frame."""
    centres = []
    for level, (h, w) in enumerate(levels.shapes):
        valid = levels.valid[:, level]  # [B, 2]
        x = (torch.arange(w, device=valid.device) + 0.5) / (valid[:, :1] * w)  # [B, w]
        y = (torch.arange(h, device=valid.device) + 0.5) / (valid[:, 1:] * h)  # [B, h]
        x, y = x[:, None, :].expand(-1, h, -1), y[:, :, None].expand(-1, -1, w)
        centres.append(torch.stack([x, y], -1).flatten(1, 2))
    return torch.cat(centres, 1)
