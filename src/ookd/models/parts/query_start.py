"""How queries start: from learned codes, or at the peaks of a heat-map.

The published models learn a content, a position and a reference point for every query, and need many epochs
for that. Placed queries start at the peaks of a class heat-map instead. Their content is the encoder's token
there, and their reference point is the place.

Shapes: B frames or clips, T frames of a clip (1 for frames), Q queries, K classes, h w the finest level.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ookd.models.parts.grid import peak_scores
from ookd.models.parts.heads import class_head
from ookd.models.parts.pixel_encoder import DeformableConfig, EncoderMemory, cell_centres
from ookd.models.parts.position import sine_code


@dataclass(slots=True)
class QueryStart:
    """The queries before the first decoder layer."""

    position: Tensor  # [B, Q, D] position codes, the same in every layer
    content: Tensor  # [B, Q, D]
    reference: Tensor  # [B, Q, 2] in 0..1
    hidden: Tensor | None = None  # [Q, Q] bool: the second query is hidden from the first; None: nothing is
    heat: Tensor | None = (
        None  # [B * T, K, h, w] logits that an object of this class has its centre in the cell
    )


class LearnedStart(nn.Module):
    def __init__(self, config: DeformableConfig) -> None:
        super().__init__()
        self.codes = nn.Embedding(config.queries, 2 * config.dim)  # position first, content second
        self.point = nn.Linear(config.dim, 2)
        nn.init.xavier_uniform_(self.point.weight)
        nn.init.zeros_(self.point.bias)

    def forward(self, memory: EncoderMemory, frames: int = 1) -> QueryStart:
        """The same queries for every clip of this many frames."""
        clips = len(memory.tokens) // frames
        position, content = self.codes.weight.expand(clips, -1, -1).chunk(2, -1)
        return QueryStart(position, content, self.point(position).float().sigmoid())


class PlacedStart(nn.Module):
    def __init__(self, config: DeformableConfig) -> None:
        super().__init__()
        self.queries = config.queries
        self.shape = nn.Conv2d(config.dim, config.dim, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(32, config.dim)
        self.classify = class_head(config.dim, config.classes)
        self.position = nn.Linear(config.dim, config.dim)
        self.content = nn.Linear(config.dim, config.dim)

    def forward(self, memory: EncoderMemory, frames: int = 1, extra: Tensor | None = None) -> QueryStart:
        """From the memory of clips of this many frames.

        `extra` [B, A] cells of a clip's T * h * w become queries too, after the peaks. They see all others,
        but the peaks do not see them.
        """
        (h, w), *_ = memory.levels.shapes
        pad, tokens = memory.levels.pad[:, : h * w], memory.tokens
        shape = self.norm(self.shape(memory.maps()[0])).relu()
        heat = self.classify(shape.movedim(1, -1)).movedim(-1, 1).float()  # [B * T, K, h, w]
        cells, hidden = peak_cells(heat, pad, frames, self.queries), None
        if extra is not None:
            main = cells.shape[1]
            cells = torch.cat([cells, extra], 1)
            hidden = torch.zeros(cells.shape[1], cells.shape[1], dtype=torch.bool, device=cells.device)
            hidden[:main, main:] = True

        def rows(x: Tensor) -> Tensor:
            """[B * T, h * w and more, C] -> [B, Q, C]"""
            x = x[:, : h * w].unflatten(0, (-1, frames)).flatten(1, 2)
            return x.gather(1, cells.unsqueeze(-1).expand(-1, -1, x.shape[-1]))

        code = sine_code(pad.unflatten(1, (h, w)), tokens.shape[-1]).flatten(2).transpose(1, 2)
        return QueryStart(
            self.position(rows(code).to(tokens.dtype)),
            self.content(rows(tokens)),
            rows(cell_centres(memory.levels)),
            hidden,
            heat,
        )


def query_start(config: DeformableConfig) -> LearnedStart | PlacedStart:
    return LearnedStart(config) if config.start == "learned" else PlacedStart(config)


def peak_cells(heat: Tensor, pad: Tensor, frames: int, count: int) -> Tensor:
    """The best local maxima [B, Q] of a clip's heat-maps; fewer than `count` if there are fewer cells.

    heat [B * T, K, h, w], pad [B * T, h * w]; the answer counts through the clip's T * h * w cells.
    """
    score = peak_scores(heat).flatten(1).masked_fill(pad, -1e4)
    score = score.unflatten(0, (-1, frames)).flatten(1)
    return score.topk(min(count, score.shape[1])).indices
