"""Cells of a grid, counted row by row, and places in it: x and y in 0..1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def cells_at(places: Tensor, size: tuple[int, int]) -> Tensor:
    """The cells [...] that places [..., 2] lie in, of a grid of this height and width."""
    height, width = size
    cell = (places * places.new_tensor([width, height])).long()
    return cell[..., 1].clamp(0, height - 1) * width + cell[..., 0].clamp(0, width - 1)


def centres_of(cells: Tensor, size: tuple[int, int]) -> Tensor:
    """The centres [..., 2] of cells [...]."""
    height, width = size
    x, y = cells % width, torch.div(cells, width, rounding_mode="floor")
    return torch.stack([(x + 0.5) / width, (y + 0.5) / height], -1)


def peak_scores(heat: Tensor) -> Tensor:
    """Logits [B, h, w] of the best class of a heat-map [B, K, h, w], far lower where it has no peak."""
    best = heat.detach().float().amax(1)
    around = F.max_pool2d(best.unsqueeze(1), 3, stride=1, padding=1).squeeze(1)
    return torch.where(best == around, best, best - 100.0)
