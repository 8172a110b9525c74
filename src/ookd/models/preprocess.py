"""From 8-bit RGB frames to what the networks read."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MEAN = (123.675, 116.28, 103.53)  # of ImageNet, RGB, on the 0..255 scale
STD = (58.395, 57.12, 57.375)
STRIDE = 32  # of the coarsest backbone level: padded sizes are multiples of it


def normalise(frames: Tensor, pad: Tensor) -> Tensor:
    """Centre and scale [..., 3, H, W] frames of 0..255; exactly 0 where `pad` [..., H, W] is True."""
    mean, std = (frames.new_tensor(values, dtype=torch.float32).view(3, 1, 1) for values in (MEAN, STD))
    return ((frames.float() - mean) / std).masked_fill(pad.unsqueeze(-3), 0.0)


def pad_to_stride(frames: Tensor, stride: int = STRIDE) -> tuple[Tensor, Tensor]:
    """Frames [..., 3, H, W] with zeros added at the right and bottom, and their pad mask [..., H, W]."""
    height, width = frames.shape[-2:]
    bottom, right = -height % stride, -width % stride
    pad = torch.zeros(*frames.shape[:-3], height, width, dtype=torch.bool, device=frames.device)
    return F.pad(frames, (0, right, 0, bottom)), F.pad(pad, (0, right, 0, bottom), value=True)


def unpadded_sizes(pad: Tensor) -> Tensor:
    """[B, 2] width and height, in pixels, of the frames that `pad` [B, H, W] surrounds."""
    inside = ~pad
    return torch.stack([inside[:, 0, :].sum(-1), inside[:, :, 0].sum(-1)], -1).float()
