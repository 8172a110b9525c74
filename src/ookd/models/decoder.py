"""The frame decoder: queries find objects in one frame, each layer starting from the last one's boxes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ookd.models.deformable import DeformableAttention
from ookd.models.heads import box_head, refine
from ookd.models.pixels import LEVELS, DeformableConfig, FeedForward, Memory


@dataclass(slots=True)
class Decoded:
    """The answer of one decoder layer."""

    features: Tensor  # [B, Q, D]
    reference: Tensor  # [B, Q, 2 or 4] what entered the layer
    boxes: Tensor  # [B, Q, 4]


class SelfAttention(nn.Module):
    """Queries look at each other; their position codes help to compare, but are not passed on."""

    def __init__(self, config: DeformableConfig) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(config.dim, config.heads, config.dropout, batch_first=True)
        nn.init.xavier_uniform_(self.attention.out_proj.weight)
        self.norm = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        key = x + position
        seen, _ = self.attention(key, key, x, need_weights=False)
        return self.norm(x + self.dropout(seen))


class DecoderLayer(nn.Module):
    def __init__(self, config: DeformableConfig) -> None:
        super().__init__()
        self.self_attention = SelfAttention(config)
        self.attention = DeformableAttention(config.dim, config.heads, LEVELS, config.points)
        self.norm = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.feed_forward = FeedForward(config.dim, config.ffn, config.dropout)

    def forward(self, x: Tensor, position: Tensor, reference: Tensor, memory: Memory) -> Tensor:
        x = self.self_attention(x, position)
        levels = memory.levels
        seen = self.attention(x + position, levels.spread(reference), memory.tokens, levels)
        return self.feed_forward(self.norm(x + self.dropout(seen)))


class QueryStart(nn.Module):
    """What the queries are before they see a frame: a position code, a first content, a reference point."""

    def __init__(self, config: DeformableConfig) -> None:
        super().__init__()
        self.codes = nn.Embedding(config.queries, 2 * config.dim)  # position first, content second
        self.point = nn.Linear(config.dim, 2)
        nn.init.xavier_uniform_(self.point.weight)
        nn.init.zeros_(self.point.bias)

    def forward(self, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Position [B, Q, D], content [B, Q, D], reference point [B, Q, 2] in 0..1."""
        position, content = self.codes.weight.expand(batch, -1, -1).chunk(2, -1)
        return position, content, self.point(position).float().sigmoid()


class Decoder(nn.Module):
    def __init__(self, config: DeformableConfig) -> None:
        super().__init__()
        self.start = QueryStart(config)
        self.layers = nn.ModuleList([DecoderLayer(config) for _ in range(config.decoder_layers)])
        self.box_heads = nn.ModuleList([box_head(config.dim, i == 0) for i in range(config.decoder_layers)])

    def forward(self, memory: Memory) -> list[Decoded]:
        """One answer a layer. Boxes reach the next layer without their gradient."""
        position, x, reference = self.start(len(memory.tokens))
        answers = []
        for layer, head in zip(self.layers, self.box_heads, strict=True):
            x = layer(x, position, reference, memory)
            boxes = refine(head(x), reference)
            answers.append(Decoded(x, reference, boxes))
            reference = boxes.detach()
        return answers
