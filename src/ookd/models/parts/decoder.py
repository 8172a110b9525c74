"""The frame decoder: queries find objects in one frame, and each layer starts from the boxes of the last."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ookd.models.parts.deformable import DeformableAttention
from ookd.models.parts.feed_forward import ResidualFeedForward
from ookd.models.parts.heads import box_head, refine
from ookd.models.parts.pixel_encoder import LEVELS, DeformableConfig, EncoderMemory
from ookd.models.parts.query_start import QueryStart, query_start


@dataclass(slots=True)
class Decoded:
    """The answer of one decoder layer."""

    features: Tensor  # [B, Q, D]
    reference: Tensor  # [B, Q, 2 or 4] what entered the layer
    boxes: Tensor  # [B, Q, 4]


class SelfAttention(nn.Module):
    """Self-attention of queries. Their position codes are part of queries and keys, but not of values."""

    def __init__(self, config: DeformableConfig) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(config.dim, config.heads, config.dropout, batch_first=True)
        nn.init.xavier_uniform_(self.attention.out_proj.weight)
        self.norm = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, position: Tensor, hidden: Tensor | None = None) -> Tensor:
        key = x + position
        attended, _ = self.attention(key, key, x, need_weights=False, attn_mask=hidden)
        return self.norm(x + self.dropout(attended))


class DecoderLayer(nn.Module):
    def __init__(self, config: DeformableConfig) -> None:
        super().__init__()
        self.self_attention = SelfAttention(config)
        self.attention = DeformableAttention(config.dim, config.heads, LEVELS, config.points)
        self.norm = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.feed_forward = ResidualFeedForward(config.dim, config.ffn, config.dropout)

    def forward(
        self, x: Tensor, position: Tensor, reference: Tensor, memory: EncoderMemory, hidden: Tensor | None
    ) -> Tensor:
        x = self.self_attention(x, position, hidden)
        levels = memory.levels
        attended = self.attention(x + position, levels.spread(reference), memory.tokens, levels)
        return self.feed_forward(self.norm(x + self.dropout(attended)))


class Decoder(nn.Module):
    def __init__(self, config: DeformableConfig) -> None:
        super().__init__()
        self.start = query_start(config)
        self.layers = nn.ModuleList([DecoderLayer(config) for _ in range(config.decoder_layers)])
        self.box_heads = nn.ModuleList([box_head(config.dim, i == 0) for i in range(config.decoder_layers)])

    def forward(self, memory: EncoderMemory, start: QueryStart | None = None) -> list[Decoded]:
        """One answer a layer. Boxes enter the next layer without their gradient."""
        start = start or self.start(memory)
        x, reference = start.content, start.reference
        answers = []
        for layer, head in zip(self.layers, self.box_heads, strict=True):
            x = layer(x, start.position, reference, memory, start.hidden)
            boxes = refine(head(x), reference)
            answers.append(Decoded(x, reference, boxes))
            reference = boxes.detach()
        return answers
