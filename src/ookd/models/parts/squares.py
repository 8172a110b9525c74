"""Frames of any shape as squares, for networks that see nothing else, and their masks and maps back again."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ookd.models.preprocess import unpadded_sizes


def squeeze(frames: Tensor, pad: Tensor, side: int) -> Tensor:
    """The images in the top left corners of frames [B, 3, H, W], resized to squares [B, 3, side, side]."""
    height, width = frames.shape[-2:]
    share = unpadded_sizes(pad) / torch.tensor([width, height], device=frames.device)  # [B, 2]
    at = (torch.arange(side, device=frames.device) + 0.5) / side
    grid = torch.stack(torch.meshgrid(at, at, indexing="xy"), -1)  # [side, side, 2] x, y in 0..1
    return _sample(frames, grid * share[:, None, None])


def unsqueeze(maps: Tensor, pad: Tensor, stride: int, outside: float) -> Tensor:
    """Maps [B, C, s, s] of squeezed images, moved to the padded frames [B, C, H/stride, W/stride].

    The padding gets the value `outside`.
    """
    height, width = (side // stride for side in pad.shape[-2:])
    y, x = ((torch.arange(n, device=pad.device) + 0.5) * stride for n in (height, width))
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1) / unpadded_sizes(pad)[:, None, None]
    padding = (grid > 1).any(-1).unsqueeze(1)  # [B, 1, h, w]
    return _sample(maps, grid).masked_fill(padding, outside)


def _sample(maps: Tensor, places: Tensor) -> Tensor:
    """Bilinear samples of maps [B, C, h, w] at places [B, y, x, 2] in 0..1."""
    grid = (2 * places - 1).to(maps.dtype)
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)
