"""Swin transformer as detection models use it: windows have the same size at every resolution."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn

PATCH = 4


class SwinConfig(BaseModel, frozen=True, extra="forbid"):
    kind: Literal["swin"] = "swin"
    width: int = Field(default=192, ge=1)  # channels of the first stage; doubles with every stage
    blocks: tuple[int, int, int, int] = (2, 2, 18, 2)
    heads: tuple[int, int, int, int] = (6, 12, 24, 48)
    window: int = Field(default=12, ge=2)
    drop_path: float = Field(default=0.3, ge=0, lt=1)

    @model_validator(mode="after")
    def _heads_divide(self) -> SwinConfig:
        for stage, heads in enumerate(self.heads):
            if self.width * 2**stage % heads:
                raise ValueError(f"stage {stage}: {self.width * 2**stage} channels into {heads} heads")
        return self


class DropPath(nn.Module):
    """In training, drop a residual branch for whole samples at random."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        keep = x.new_empty(x.shape[0], *(1 for _ in x.shape[1:])).bernoulli_(1 - self.rate)
        return x * keep / (1 - self.rate)


class WindowAttention(nn.Module):
    """Self-attention within windows, with a learned bias for every relative position."""

    relative_position_index: Tensor

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", relative_position_index(window), persistent=False)

    def forward(self, x: Tensor, apart: Tensor | None) -> Tensor:
        """x [B, G, n, D] of G windows; apart [G, n, n]: True where two cells must not see each other."""
        batch, groups, cells, dim = x.shape
        q, k, v = self.qkv(x).view(batch, groups, cells, 3, self.heads, -1).permute(3, 0, 1, 4, 2, 5)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)  # [M, n, n]
        if apart is not None:
            bias = bias - 100.0 * apart.to(bias.dtype).unsqueeze(1)  # [G, M, n, n]
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(x.transpose(2, 3).reshape(batch, groups, cells, dim))


def relative_position_index(window: int) -> Tensor:
    """[n, n] row of the bias table for every pair of a window's n cells."""
    place = torch.arange(window)
    y, x = (axis.flatten() for axis in torch.meshgrid(place, place, indexing="ij"))
    dy, dx = (axis[:, None] - axis[None, :] + window - 1 for axis in (y, x))
    return dy * (2 * window - 1) + dx


class SwinBlock(nn.Module):
    def __init__(self, dim: int, heads: int, window: int, shift: int, drop_path: float) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, heads, window)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(dim, 4 * dim), "fc2": nn.Linear(4 * dim, dim)})

    def forward(self, x: Tensor) -> Tensor:
        """x [B, h, w, D]"""
        x = x + self.drop_path(self._attend(self.norm1(x)))
        return x + self.drop_path(self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x)))))

    def _attend(self, x: Tensor) -> Tensor:
        _, h, w, _ = x.shape
        x = F.pad(x, (0, 0, 0, -w % self.window, 0, -h % self.window))
        padded = (x.shape[1], x.shape[2])
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (1, 2))
            apart = self._apart(padded, x.device)
            x = merge(self.attn(partition(x, self.window), apart), self.window, padded)
            x = x.roll((self.shift, self.shift), (1, 2))
        else:
            x = merge(self.attn(partition(x, self.window), None), self.window, padded)
        return x[:, :h, :w]

    def _apart(self, shape: tuple[int, int], device: torch.device) -> Tensor:
        """[G, n, n] True for cells that only the shift has brought into one window."""
        y, x = (
            (place >= size - self.window).long() + (place >= size - self.shift).long()
            for size in shape
            for place in [torch.arange(size, device=device)]
        )
        region = partition((y[:, None] * 3 + x)[None, :, :, None], self.window)[0, :, :, 0]  # [G, n]
        return region[:, :, None] != region[:, None, :]


def partition(x: Tensor, window: int) -> Tensor:
    """[B, h, w, D] -> [B, G, n, D], windows row by row."""
    batch, h, w, dim = x.shape
    x = x.view(batch, h // window, window, w // window, window, dim).transpose(2, 3)
    return x.reshape(batch, -1, window * window, dim)


def merge(x: Tensor, window: int, shape: tuple[int, int]) -> Tensor:
    """[B, G, n, D] -> [B, h, w, D]"""
    h, w = shape
    x = x.view(x.shape[0], h // window, w // window, window, window, -1).transpose(2, 3)
    return x.reshape(x.shape[0], h, w, -1)


class PatchMerging(nn.Module):
    """Four neighbours become one cell of twice the channels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        x = torch.cat([x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)], -1)
        return self.reduction(self.norm(x))


class PatchEmbed(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, PATCH, PATCH)
        self.norm = nn.LayerNorm(dim)

    def forward(self, frames: Tensor) -> Tensor:
        frames = F.pad(frames, (0, -frames.shape[3] % PATCH, 0, -frames.shape[2] % PATCH))
        return self.norm(self.proj(frames).permute(0, 2, 3, 1))


class SwinStage(nn.Module):
    def __init__(self, config: SwinConfig, stage: int, rates: list[float]) -> None:
        super().__init__()
        dim, heads, window = config.width * 2**stage, config.heads[stage], config.window
        self.blocks = nn.ModuleList(
            [SwinBlock(dim, heads, window, i % 2 * (window // 2), rate) for i, rate in enumerate(rates)]
        )
        self.downsample = PatchMerging(dim) if stage < 3 else nn.Identity()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """This stage's map [B, h, w, D], and what the next stage starts from."""
        for block in self.blocks:
            x = block(x)
        return x, self.downsample(x)


class Swin(nn.Module):
    """Frames [B, 3, H, W] -> maps of strides 8, 16, 32."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config.width)
        total = sum(config.blocks)
        rates = iter([config.drop_path * i / max(total - 1, 1) for i in range(total)])  # the deeper, the more
        self.layers = nn.ModuleList(
            [
                SwinStage(config, i, [next(rates) for _ in range(blocks)])
                for i, blocks in enumerate(config.blocks)
            ]
        )
        self.channels = [config.width * factor for factor in (2, 4, 8)]
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for channels in self.channels)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, frames: Tensor) -> list[Tensor]:
        x = self.patch_embed(frames)
        maps = []
        for stage in self.layers:
            found, x = stage(x)
            maps.append(found)
        norms = (self.norm1, self.norm2, self.norm3)
        return [norm(x).permute(0, 3, 1, 2) for norm, x in zip(norms, maps[1:], strict=True)]
