"""Sine codes of the places of cells in their frame."""

from __future__ import annotations

import math

import torch
from torch import Tensor

TEMPERATURE = 10000.0


def sine_code(pad: Tensor, dim: int) -> Tensor:
    """Code [B, dim, h, w] of cells of a map with pad mask [B, h, w]; y in the first half, x in the second.

    Positions count cells without padding and end at 2 pi, so the code does not depend on the padding.
    """
    inside = (~pad).float()
    frequency = torch.arange(dim // 2, device=pad.device)
    frequency = TEMPERATURE ** (2 * (frequency // 2) / (dim // 2))

    def along(axis: int) -> Tensor:
        place = inside.cumsum(axis)
        place = (place - 0.5) / (inside.sum(axis, keepdim=True) + 1e-6) * (2 * math.pi)
        angle = place.unsqueeze(1) / frequency.view(-1, 1, 1)  # [B, dim/2, h, w]
        return torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], 2).flatten(1, 2)

    return torch.cat([along(1), along(2)], 1)
