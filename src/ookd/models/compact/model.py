"""The compact online student: small enough to read at once and to train on a laptop.

A class heat-map proposes places, and the feature at each of the best places becomes a query. In a few layers
each query attends to the cells under its own mask and to the other queries. A mask is the query's inner
product with the pixels plus a quadratic form around the query's place, so every query starts as a disk and
learns its outline from there. Only convolutions, matrix products, softmax, top-k and gathers are used, so
all of it exports.

Shapes: B frames, Q queries, K classes, D width, M mask channels, h w a grid of cells, S tokens of strides 16
and 32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ookd.models.compact.attention import Attention
from ookd.models.compact.config import CompactConfig
from ookd.models.compact.encoder import PRIOR, FrameEncoder, PixelFeatures
from ookd.models.parts.feed_forward import FeedForward
from ookd.models.parts.frame_targets import FINEST
from ookd.models.parts.grid import cells_at, centres_of, peak_scores
from ookd.models.protocols import OnlineModel, State
from ookd.structures import FrameQueries

DISK = (-12.0, -12.0, 0.0, 0.0, 0.0, 2.0)  # x2, y2, xy, x, y, 1: the mask every query starts from
FINE_HEADS = 4  # attention heads at stride 8
UNIT = 0.25  # unit of the quadratic's coordinates, in square roots of the frame's area


@dataclass(slots=True)
class CompactQueries(FrameQueries):
    """Frame queries that also give coarser masks, which cost less, and know where they started."""

    masks_at: Callable[[Tensor, int], Tensor]  # select [B, N], stride -> mask logits [B, N, h, w]
    places: Tensor  # [B, Q, 2] where they started, x and y in 0..1
    between: Tensor | None = None  # [1, Q, Q] what was added to the attention among them
    layers: list[Tensor] = field(default_factory=list)  # [B, Q, D] features from the start to the answer


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
