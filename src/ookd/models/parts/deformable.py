"""Multi-scale deformable attention in plain PyTorch: queries attend to a few points of each level."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ookd.models.parts.level_sampling import Shapes, sample_levels

# An operator of exported graphs only, for runtimes with a kernel of their own. Its inputs are the
# attention's result [B, Q, D] and what that was computed from: value [B, S, M, D / M], offsets [B, Q,
# M*L*P*2] in cells of their maps (or in shares of a box), weights [B, Q, M, L*P], reference [B, Q, L, 2 or
# 4] and shapes [L, 2].
LOOK = "ookd::Look"


@dataclass(slots=True)
class Levels:
    """The layout of S tokens: L feature maps, the finest first, row by row."""

    shapes: tuple[tuple[int, int], ...]  # L x (h, w)
    pad: Tensor  # [B, S] bool
    valid: Tensor  # [B, L, 2] share of each map, in x and y, that is not padding

    def spread(self, reference: Tensor) -> Tensor:
        """Points [B, Q, 2] or boxes [B, Q, 4] of the frame -> of each padded map, [B, Q, L, 2 or 4]."""
        return reference.unsqueeze(2) * self.valid.repeat(1, 1, reference.shape[-1] // 2).unsqueeze(1)


class DeformableAttention(nn.Module):
    """Points are offsets from a reference point (or box), predicted from the query; so are their weights.

    Locations and sampling stay in float32: half precision would move points by whole cells.
    """

    def __init__(self, dim: int, heads: int, levels: int, points: int) -> None:
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        self.offsets = nn.Linear(dim, heads * levels * points * 2)
        self.weights = nn.Linear(dim, heads * levels * points)
        self.values = nn.Linear(dim, dim)
        self.output = nn.Linear(dim, dim)
        self._initialise()

    def _initialise(self) -> None:
        """At first, head m points in one direction, point p is p + 1 cells away, and all weigh the same."""
        angle = torch.arange(self.heads) * (2 * math.pi / self.heads)
        direction = torch.stack([angle.cos(), angle.sin()], -1)
        direction = direction / direction.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, self.points + 1, dtype=torch.float32)
        offsets = direction[:, None, None] * steps[:, None]  # [M, 1, P, 2]
        nn.init.zeros_(self.offsets.weight)
        self.offsets.bias.data = offsets.expand(-1, self.levels, -1, -1).flatten().clone()
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)
        for linear in (self.values, self.output):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, query: Tensor, reference: Tensor, tokens: Tensor, levels: Levels) -> Tensor:
        """[B, Q, D]; see `attend` for the arguments."""
        return self.output(self.attend(query, reference, tokens, levels))

    def attend(self, query: Tensor, reference: Tensor, tokens: Tensor, levels: Levels) -> Tensor:
        """The queries [B, Q, D] attend to the tokens [B, S, D]: [B, Q, D], before the output projection.

        reference: one point or box for each query and level, [B, Q, L, 2 or 4] in 0..1 of the padded maps.
        """
        value = self.values(tokens).masked_fill(levels.pad.unsqueeze(-1), 0.0).unflatten(-1, (self.heads, -1))
        value = value.float()
        weights = self.weights(query).unflatten(-1, (self.heads, -1)).softmax(-1).float()
        offsets = self.offsets(query).float()
        locations = self.locations(offsets, reference, levels.shapes)
        each = weights.unflatten(-1, (self.levels, self.points))
        found = sample_levels(value, levels.shapes, locations, each)
        if torch.onnx.is_in_onnx_export():
            inputs = (found, value, offsets, weights, reference, torch.tensor(levels.shapes))
            found = torch.onnx.ops.symbolic(LOOK, inputs, dtype=found.dtype, shape=found.shape, version=1)
        return found.to(query.dtype)

    def locations(self, offsets: Tensor, reference: Tensor, shapes: Shapes) -> Tensor:
        """The sampled points [B, Q, M, L, P, 2] in 0..1 of the padded maps."""
        offsets = offsets.unflatten(-1, (self.heads, self.levels, self.points, 2))
        places = reference[:, :, None, :, None]  # [B, Q, 1, L, 1, 2 or 4]
        if reference.shape[-1] == 2:
            cells = torch.tensor(shapes, dtype=torch.float32, device=offsets.device).flip(-1).unsqueeze(1)
            return places + offsets / cells
        return places[..., :2] + offsets / self.points * places[..., 2:] * 0.5
