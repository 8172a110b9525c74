"""Learned positions of the patches of a plain vision transformer."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def resized_table(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """A square table of positions [n * n, D] for a grid of patches -> [h * w, D], as published."""
    side = round(len(table) ** 0.5)
    if grid == (side, side):
        return table
    square = table.float().T.unflatten(1, (side, side)).unsqueeze(0)
    resized = F.interpolate(square, grid, mode="bicubic", antialias=True, align_corners=False)
    return resized[0].flatten(1).T.to(table.dtype)
