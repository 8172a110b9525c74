"""The compact online student: small enough to read at once and to train on a laptop.

A class heat-map proposes places, and the feature at each of the best places becomes a query. In a few layers
each query attends to the cells under its own mask and to the other queries. A mask is the query's inner
product with the pixels plus a quadratic form around the query's place, so every query starts as a disk and
learns its outline from there. Only convolutions, matrix products, softmax, top-k and gathers are used, so
all of it exports. What is finer than stride 16 has few channels, because there most of the cells are.

Shapes: B frames, Q queries, K classes, D width, M mask channels, h w a grid of cells, S tokens of strides 16
and 32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ookd.models.backbones.efficientnet_lite import EfficientNetLite, Variant
from ookd.models.parts.feed_forward import FeedForward
from ookd.models.parts.frame_targets import FINEST
from ookd.models.parts.grid import cells_at, centres_of, peak_scores
from ookd.models.protocols import ModelConfig, OnlineModel, State
from ookd.structures import FrameQueries

PRIOR = 0.02  # probability of a class before training
DISK = (-12.0, -12.0, 0.0, 0.0, 0.0, 2.0)  # x2, y2, xy, x, y, 1: the mask every query starts from
FINE_HEADS = 4  # attention heads at stride 8
UNIT = 0.25  # unit of the quadratic's coordinates, in square roots of the frame's area


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


@dataclass(slots=True)
class CompactQueries(FrameQueries):
    """Frame queries that also give coarser masks, which cost less, and know where they started."""

    masks_at: Callable[[Tensor, int], Tensor]  # select [B, N], stride -> mask logits [B, N, h, w]
    places: Tensor  # [B, Q, 2] where they started, x and y in 0..1
    between: Tensor | None = None  # [1, Q, Q] what was added to the attention among them
    layers: list[Tensor] = field(default_factory=list)  # [B, Q, D] features from the start to the answer


class Attention(nn.Module):
    """Multi-head attention step by step: faster than the fused one on CPUs in bfloat16, and it exports."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
        """query [B, Q, D], key and value [B, S, D], bias of the logits [B or 1, Q or 1, S] -> [B, Q, D]."""
        q, k, v = (self._split(x) for x in (self.query(query), self.key(key), self.value(value)))
        logits = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5)
        if bias is not None:
            logits = logits + bias.unsqueeze(1)
        mixed = logits.softmax(-1).to(v.dtype) @ v
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class PixelAttention(nn.Module):
    """A query attends to the cells under its mask.

    Those of stride 8 are many, so their features are the values as they are, and all layers share the keys.
    """

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.coarse = Attention(config.width, config.heads)
        self.query = nn.Linear(config.width, config.fine_width)
        self.out = nn.Linear(config.fine_width, config.width)

    def forward(self, query: Tensor, pixels: PixelFeatures, focus: Tensor) -> Tensor:
        """query [B, Q, D]; focus [B, Q, S], as of `mask_focus`, is added to the attention."""
        fine, coarse = focus.split([focus.shape[2] - pixels.tokens.shape[1], pixels.tokens.shape[1]], 2)
        tokens = pixels.tokens
        found = self.coarse(query, tokens + pixels.position, tokens, coarse)
        q = self.query(query).unflatten(2, (FINE_HEADS, -1)).transpose(1, 2)
        keys, values = (x.flatten(2).unflatten(1, (FINE_HEADS, -1)) for x in (pixels.keys, pixels.fine))
        logits = q @ keys * (q.shape[-1] ** -0.5) + fine.unsqueeze(1)
        mixed = logits.softmax(-1).to(values.dtype) @ values.transpose(2, 3)
        return found + self.out(mixed.transpose(1, 2).flatten(2))


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


class CompactDecoderLayer(nn.Module):
    """A query attends to its own mask, then to the other queries."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.look = PixelAttention(config)
        self.compare = Attention(config.width, config.heads)
        self.feed_forward = FeedForward(config.width, config.hidden)
        self.norms = nn.ModuleList(nn.LayerNorm(config.width) for _ in range(3))

    def forward(
        self, x: Tensor, place: Tensor, pixels: PixelFeatures, focus: Tensor, between: Tensor | None
    ) -> Tensor:
        """x and place [B, Q, D]; focus [B, Q, S] is added to the attention, low outside a query's mask."""
        x = self.norms[0](x + self.look(x + place, pixels, focus))
        x = self.norms[1](x + self.compare(x + place, x + place, x, between))
        return self.norms[2](x + self.feed_forward(x))


class Heads(nn.Module):
    """From queries to classes, masks and embeddings; the same heads serve all layers."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        d = config.width
        self.norm = nn.LayerNorm(d)
        self.classify = nn.Linear(d, config.classes)
        nn.init.constant_(self.classify.bias, -math.log(1 / PRIOR - 1))
        self.mask = nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, config.mask_width))
        self.shape = nn.Linear(d, len(DISK))
        nn.init.normal_(self.shape.weight, std=0.01)
        with torch.no_grad():
            self.shape.bias.copy_(torch.tensor(DISK))
        self.embed = nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, config.embed))

    def forward(self, x: Tensor, places: Tensor, pixels: PixelFeatures) -> CompactQueries:
        """x [B, Q, D], places [B, Q, 2] as x, y in 0..1."""
        return self.answer(self.norm(x), places, pixels)

    def answer(self, x: Tensor, places: Tensor, pixels: PixelFeatures) -> CompactQueries:
        """The same from normed features."""
        weights = self.mask(x) * (pixels.masks[4].shape[1] ** -0.5)
        shapes = self.shape(x)

        def masks_at(select: Tensor, stride: int) -> Tensor:
            def rows(y: Tensor) -> Tensor:
                return y.gather(1, select.unsqueeze(-1).expand(-1, -1, y.shape[-1]))

            return mask_logits(pixels.products(rows(weights), stride), rows(shapes), rows(places))

        return CompactQueries(
            self.classify(x),
            None,
            self.embed(x),
            x,
            lambda select: masks_at(select, FINEST),
            masks_at,
            places,
            maps=pixels.maps(),
        )


class Compact(OnlineModel):
    """Online student. It carries no state from frame to frame."""

    config: CompactConfig

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = FrameEncoder(config)
        self.start = nn.Linear(config.fine_width, config.width)
        self.layers = nn.ModuleList(CompactDecoderLayer(config) for _ in range(config.layers))
        self.heads = Heads(config)

    def load_pretrained(self) -> None:
        """Take the ImageNet weights of the backbone."""
        self.encoder.trunk.load_imagenet()

    def forward(self, frames: Tensor, pad: Tensor, state: State | None = None) -> tuple[FrameQueries, None]:
        pixels = self.encoder(frames, pad)
        return self.decode(pixels, peak_places(pixels, self.config.queries))[-1], None

    def decode(
        self, pixels: PixelFeatures, places: Tensor, between: Tensor | None = None
    ) -> list[CompactQueries]:
        """Queries at places [B, Q, 2] through all layers; the first answer is from before the first layer.

        `between` [1, Q, Q] is added to the attention among queries: -inf hides one from another.
        """
        index = cells_at(places, pixels.sizes[0]).unsqueeze(1).expand(-1, pixels.fine.shape[1], -1)
        place = pixels.code_at(places)
        x = self.start(pixels.fine.flatten(2).gather(2, index).transpose(1, 2))
        answers = [self.heads(x, places, pixels)]
        for layer in self.layers:
            x = layer(x, place, pixels, mask_focus(answers[-1], pixels), between)
            answers.append(self.heads(x, places, pixels))
        answers[-1].between, answers[-1].layers = between, [answer.features for answer in answers]
        return answers


def peak_places(pixels: PixelFeatures, count: int) -> Tensor:
    """The best local maxima of the heat-map as places [B, count, 2] in 0..1: the centres of their cells."""
    height, width = pixels.sizes[0]
    score = (peak_scores(pixels.heat) + pixels.outside).flatten(1)
    return centres_of(score.topk(min(count, height * width)).indices, (height, width))


def mask_focus(queries: CompactQueries, pixels: PixelFeatures) -> Tensor:
    """Attention bias [B, Q, S] of strides 8 to 32: the mask logit where it is negative, at least -8."""
    b, q = queries.logits.shape[:2]
    with torch.no_grad():
        everyone = torch.arange(q, device=queries.logits.device).expand(b, -1)
        levels = [queries.masks_at(everyone, stride).flatten(2) for stride in (8, 16, 32)]
        padding = torch.cat([pixels.outside.flatten(1), pixels.padding], 1)
        return torch.cat(levels, -1).clamp(-8.0, 0.0) + padding.unsqueeze(1)


def mask_logits(products: Tensor, shapes: Tensor, places: Tensor) -> Tensor:
    """Products with the pixels [B, N, h, w], shapes [B, N, 6], places [B, N, 2] -> [B, N, h, w].

    The quadratic around a place is expanded in absolute coordinates, so that it is one matrix product with
    six maps; in float32, because its terms cancel.
    """
    height, width = products.shape[-2:]
    products = products.float()
    with torch.autocast(products.device.type, enabled=False):
        scale = _scale(height, width, places.device)
        y, x = torch.meshgrid(
            (torch.arange(height, device=places.device) + 0.5) / height * scale[1],
            (torch.arange(width, device=places.device) + 0.5) / width * scale[0],
            indexing="ij",
        )
        maps = torch.stack([x * x, y * y, x * y, x, y, torch.ones_like(x)]).flatten(1)  # [6, hw]
        a, b, c, d, e, f = shapes.float().unbind(-1)
        px, py = (places.float() * scale).unbind(-1)
        moved = torch.stack(
            [
                a,
                b,
                c,
                d - 2 * a * px - c * py,
                e - 2 * b * py - c * px,
                f + a * px * px + b * py * py + c * px * py - d * px - e * py,
            ],
            -1,
        )
        prior = moved @ maps
    return products + prior.unflatten(-1, (height, width))


def _scale(height: int, width: int, device: torch.device) -> Tensor:
    """From 0..1 of the frame to units of `UNIT` square roots of its area, for x and y."""
    root = math.sqrt(height * width) * UNIT
    return torch.tensor([width / root, height / root], device=device)


def grid_code(size: tuple[int, int], width: int, device: torch.device) -> Tensor:
    """Position code [h * w, width] of a grid: half of the channels for y, half for x."""
    h, w = size
    rows = axis_code(h, width // 2, device).unsqueeze(1).expand(h, w, -1)
    columns = axis_code(w, width // 2, device).unsqueeze(0).expand(h, w, -1)
    return torch.cat([rows, columns], -1).reshape(h * w, width)


def axis_code(count: int, width: int, device: torch.device) -> Tensor:
    """Code [count, width] of `count` places spread evenly from 0 to 1, six octaves."""
    frequency = 2 * math.pi * 2.0 ** torch.linspace(0, 5, width // 2, device=device)
    angle = (torch.arange(count, device=device) + 0.5).unsqueeze(1) / count * frequency
    return torch.cat([angle.sin(), angle.cos()], 1)
