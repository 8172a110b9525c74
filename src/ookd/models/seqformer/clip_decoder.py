"""The clip decoder: one query follows one object through all frames of a clip.

An instance query stands for the object, and one box query a frame for its place there, which also directs
the attention. What the box queries attend to is summed over time, weighted by how well each frame shows the
object.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ookd.models.parts.decoder import SelfAttention
from ookd.models.parts.deformable import DeformableAttention
from ookd.models.parts.feed_forward import ResidualFeedForward
from ookd.models.parts.heads import box_head, refine
from ookd.models.parts.pixel_encoder import LEVELS, DeformableConfig, EncoderMemory
from ookd.models.parts.query_start import QueryStart, query_start


@dataclass(slots=True)
class ClipDecoded:
    """The answer of one decoder layer."""

    features: Tensor  # [B, Q, D] instance queries
    frame_features: Tensor  # [B, T, Q, D] box queries
    reference: Tensor  # [B, T, Q, 2 or 4] what entered the layer
    boxes: Tensor  # [B, T, Q, 4]


class ClipDecoderLayer(nn.Module):
    """Layers named `box_*` belong to the box queries, the others to the instance queries."""

    def __init__(self, config: DeformableConfig) -> None:
        super().__init__()
        self.self_attention = SelfAttention(config)
        self.box_self_attention = SelfAttention(config)
        self.attention = DeformableAttention(config.dim, config.heads, LEVELS, config.points)
        self.box_output = nn.Linear(config.dim, config.dim)
        nn.init.xavier_uniform_(self.box_output.weight)
        nn.init.zeros_(self.box_output.bias)
        self.time = nn.Linear(config.dim, 1)
        nn.init.xavier_uniform_(self.time.weight)
        self.norm = nn.LayerNorm(config.dim)
        self.box_norm = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.feed_forward = ResidualFeedForward(config.dim, config.ffn, config.dropout)
        self.box_feed_forward = ResidualFeedForward(config.dim, config.ffn, config.dropout)

    def forward(
        self,
        x: Tensor,
        boxes: Tensor,
        position: Tensor,
        reference: Tensor,
        memory: EncoderMemory,
        hidden: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """x, position [B, Q, D]; boxes [B, T, Q, D]; reference [B, T, Q, 2 or 4]; memory of B*T frames."""
        clip = boxes.shape[:2]
        x = self.self_attention(x, position, hidden)
        box_position = position.unsqueeze(1).expand_as(boxes).flatten(0, 1)
        boxes = self.box_self_attention(boxes.flatten(0, 1), box_position, hidden)
        place = memory.levels.spread(reference.flatten(0, 1))
        attended = self.attention.attend(boxes + box_position, place, memory.tokens, memory.levels)
        boxes = self.box_norm(boxes + self.dropout(self.box_output(attended)))
        boxes = self.box_feed_forward(boxes).unflatten(0, clip)
        weight = self.time(boxes).softmax(1)  # [B, T, Q, 1] from the updated box queries
        over_time = (weight * self.attention.output(attended).unflatten(0, clip)).sum(1)
        x = self.feed_forward(self.norm(x + self.dropout(over_time)))
        return x, boxes


class ClipDecoder(nn.Module):
    def __init__(self, config: DeformableConfig) -> None:
        super().__init__()
        self.start = query_start(config)
        self.layers = nn.ModuleList([ClipDecoderLayer(config) for _ in range(config.decoder_layers)])
        self.box_heads = nn.ModuleList([box_head(config.dim, i == 0) for i in range(config.decoder_layers)])

    def forward(
        self, memory: EncoderMemory, frames: int, start: QueryStart | None = None
    ) -> list[ClipDecoded]:
        """One answer a layer, from the memory of B clips of `frames` frames each."""
        start = start or self.start(memory, frames)
        x = start.content
        boxes = x.unsqueeze(1).expand(-1, frames, -1, -1)  # both kinds of query start from the same content
        reference = start.reference.unsqueeze(1).expand(-1, frames, -1, -1)
        answers = []
        for layer, head in zip(self.layers, self.box_heads, strict=True):
            x, boxes = layer(x, boxes, start.position, reference, memory, start.hidden)
            refined = refine(head(boxes), reference)
            answers.append(ClipDecoded(x, boxes, reference, refined))
            reference = refined.detach()
        return answers
