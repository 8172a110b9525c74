"""From a frame to what queries read: features of strides 4 to 32, and a heat-map of objects' centres.

What is finer than stride 16 has few channels, because there most of the cells are.

Shapes: B frames, K classes, D width, C channels of stride 8, M mask channels, h w a grid of cells, S tokens
of strides 16 and 32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ookd.models.backbones.efficientnet_lite import EfficientNetLite
from ookd.models.compact.attention import Attention
from ookd.models.compact.config import CompactConfig
from ookd.models.parts.feed_forward import FeedForward
from ookd.models.parts.frame_targets import FINEST
from ookd.models.parts.grid import cells_at, grid_code

PRIOR = 0.02  # probability of a class before training


@dataclass(slots=True)
class FinestMasks:
    """Mask features at stride 2, of which only products with queries are ever made.

    Each is a linear function of the cell of stride 4 around it, another one for each of its four pixels.
    """

    cells: Tensor  # [B, C, H/4, W/4]
    weight: Tensor  # [M, 4 * C] of the four pixels in row-major order

    def product(self, weights: Tensor) -> Tensor:
        """weights [B, N, M] -> [B, N, H/2, W/2]."""
        pixels = (weights @ self.weight).unflatten(2, (4, -1)).flatten(1, 2)  # [B, 4N, C]
        return F.pixel_shuffle((pixels @ self.cells.flatten(2)).unflatten(2, self.cells.shape[2:]), 2)

    def at(self, frames: Tensor) -> FinestMasks:
        """Those of some frames [F] only."""
        return replace(self, cells=self.cells[frames])


@dataclass(slots=True)
class PixelFeatures:
    """The output of the frame encoder."""

    tokens: Tensor  # [B, S, D] strides 16, 32 in row-major order
    position: Tensor  # [S, D] code of the tokens' places
    padding: Tensor  # [B, S] 0, or -inf where there is no image
    sizes: list[tuple[int, int]]  # height and width of strides 8, 16, 32
    fine: Tensor  # [B, C, H/8, W/8] what queries start from and attend to
    keys: Tensor  # [B, C, H/8, W/8] what they find it by
    outside: Tensor  # [B, H/8, W/8] as `padding`
    masks: dict[int, Tensor]  # stride 4, 8, 16, 32 -> mask features [B, M, h, w], means of finer ones
    finest: FinestMasks
    heat: Tensor  # [B, K, H/8, W/8] logits that an object of this class has its centre in the cell

    def products(self, weights: Tensor, stride: int) -> Tensor:
        """Of weights [B, N, M] with the mask features of a stride, [B, N, h, w]."""
        if stride == FINEST:
            return self.finest.product(weights)
        features = self.masks[stride]
        return (weights @ features.flatten(2)).unflatten(2, features.shape[2:])

    def maps(self) -> list[Tensor]:
        """[B, C, h, w] mask features at stride 4, then the features of strides 8, 16 and 32."""
        levels = self.tokens.transpose(1, 2).split([h * w for h, w in self.sizes[1:]], 2)
        shaped = (level.unflatten(2, size) for level, size in zip(levels, self.sizes[1:], strict=True))
        return [self.masks[4], self.fine, *shaped]

    def code_at(self, places: Tensor) -> Tensor:
        """Position code [F, N, D] of places [F, N, 2], that of the stride-8 cell they lie in."""
        code = grid_code(self.sizes[0], self.position.shape[-1], places.device)
        return code[cells_at(places, self.sizes[0])]

    def at(self, frames: Tensor) -> PixelFeatures:
        """The output for some frames [F] only."""
        masks = {stride: features[frames] for stride, features in self.masks.items()}
        return PixelFeatures(
            self.tokens[frames],
            self.position,
            self.padding[frames],
            self.sizes,
            self.fine[frames],
            self.keys[frames],
            self.outside[frames],
            masks,
            self.finest.at(frames),
            self.heat[frames],
        )


class ConvBlock(nn.Module):
    """3x3 convolution, group norm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class MaskFeatures(nn.Module):
    """What masks are products with, from the encoder's features of stride 4."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, 4 * inputs) * inputs**-0.5)

    def forward(self, cells: Tensor) -> tuple[dict[int, Tensor], FinestMasks]:
        """cells [B, C, H/4, W/4] -> features of strides 4 to 32, means of finer ones, and the finest."""
        mean = self.weight.unflatten(1, (4, -1)).mean(1)
        masks = {4: F.conv2d(cells, mean[..., None, None])}
        for stride in (8, 16, 32):
            masks[stride] = F.avg_pool2d(masks[stride // 2], 2)
        return masks, FinestMasks(cells, self.weight)


class FrameEncoder(nn.Module):
    """Backbone, one layer of attention over stride 32, and a top-down path to stride 2."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        d, fine = config.width, config.fine_width
        self.width = d
        self.trunk = EfficientNetLite(config.trunk, config.frozen)
        c2, c4, c8, c16, c32 = self.trunk.channels
        self.lateral32 = nn.Conv2d(c32, d, 1)
        self.lateral16 = nn.Conv2d(c16, d, 1)
        self.lateral8 = nn.Conv2d(c8, fine, 1)
        self.lateral4 = nn.Conv2d(c4, fine, 1)
        self.lateral2 = nn.Conv2d(c2, fine, 2, stride=2)
        self.level = nn.Parameter(torch.zeros(2, d))
        self.attention = Attention(d, config.heads)
        self.feed_forward = FeedForward(d, config.hidden)
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(2))
        self.refine16 = ConvBlock(d, d)
        self.down8 = nn.Conv2d(d, fine, 1)
        self.refine8 = ConvBlock(fine, fine)
        self.down4 = nn.Conv2d(fine, fine, 1)
        self.refine4 = nn.Sequential(nn.Conv2d(fine, fine // 2, 3, padding=1), nn.ReLU())
        self.masks = MaskFeatures(fine // 2, config.mask_width)
        self.keys = nn.Conv2d(fine, fine, 1, bias=False)
        self.heat = nn.Sequential(ConvBlock(fine, fine), nn.Conv2d(fine, config.classes, 1))
        last = self.heat[1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.normal_(last.weight, std=0.01)
        nn.init.constant_(last.bias, -math.log(1 / PRIOR - 1))

    def forward(self, frames: Tensor, pad: Tensor) -> PixelFeatures:
        """Normalised frames [B, 3, H, W] and their padding [B, H, W]; H and W are multiples of 32."""
        c2, c4, c8, c16, c32 = self.trunk(frames)
        sizes = [(x.shape[-2], x.shape[-1]) for x in (c8, c16, c32)]
        position = [grid_code(size, self.width, frames.device) for size in sizes[1:]]
        outside = [_outside(pad, size) for size in sizes]
        x32 = self._mix(self.lateral32(c32), position[1], outside[2].flatten(1))
        x16 = self.refine16(self.lateral16(c16) + F.interpolate(x32, scale_factor=2.0))
        x8 = self.refine8(self.lateral8(c8) + F.interpolate(self.down8(x16), scale_factor=2.0))
        sides = self.lateral4(c4) + self.lateral2(c2)
        x4 = self.refine4(sides + F.interpolate(self.down4(x8), scale_factor=2.0))
        masks, finest = self.masks(x4)
        levels = [x.flatten(2).transpose(1, 2) + self.level[i] for i, x in enumerate((x16, x32))]
        return PixelFeatures(
            torch.cat(levels, 1),
            torch.cat(position),
            torch.cat([level.flatten(1) for level in outside[1:]], 1),
            sizes,
            x8,
            self.keys(x8),
            outside[0],
            masks,
            finest,
            self.heat(x8),
        )

    def _mix(self, x32: Tensor, position: Tensor, outside: Tensor) -> Tensor:
        x = x32.flatten(2).transpose(1, 2)
        x = self.norms[0](x + self.attention(x + position, x + position, x, outside.unsqueeze(1)))
        x = self.norms[1](x + self.feed_forward(x))
        return x.transpose(1, 2).unflatten(2, x32.shape[2:])


def _outside(pad: Tensor, size: tuple[int, int]) -> Tensor:
    """[B, h, w] 0, or -inf where there is no image, from padding [B, H, W]."""
    cells = pad[:, :: pad.shape[1] // size[0], :: pad.shape[2] // size[1]]
    return torch.zeros(cells.shape, device=pad.device).masked_fill(cells, -math.inf)
