"""Cells of a grid, counted row by row, places in it, x and y in 0..1, and codes of them."""

from __future__ import annotations

import math

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
