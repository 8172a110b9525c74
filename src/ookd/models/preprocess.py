"""From 8-bit RGB frames to what the networks read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

MEAN = (123.675, 116.28, 103.53)  # of ImageNet, RGB, on the 0..255 scale
STD = (58.395, 57.12, 57.375)
LONGEST = 1333  # no resized side is longer, as in the published evaluations


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a family of models wants its frames. The defaults are those of networks trained on ImageNet."""

    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD
    multiple: int = 32  # height and width of padded frames are multiples of it
    # square: frames are stretched to squares; letterbox: their long side fits a square, the rest is padding
    aspect: Literal["keep", "square", "letterbox"] = "keep"
    padding: Literal["mean", "black"] = "mean"  # the colour of the padding: 0 after or before centring
    antialias: bool = True  # whether a frame is smoothed when it is made smaller

    def normalise(self, frames: Tensor, pad: Tensor) -> Tensor:
        """Centre and scale frames [..., 3, H, W] of 0..255; one colour where `pad` [..., H, W] is True.

        The mean colour is exactly 0.
        """
        centre, scale = (
            frames.new_tensor(values, dtype=torch.float32).view(3, 1, 1) for values in (self.mean, self.std)
        )
        outside = pad.unsqueeze(-3)
        if self.padding == "black":
            return (frames.float().masked_fill(outside, 0.0) - centre) / scale
        return ((frames.float() - centre) / scale).masked_fill(outside, 0.0)

    def pad(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Frames [..., 3, H, W] with zeros added at the right and bottom, and their pad mask [..., H, W]."""
        height, width = frames.shape[-2:]
        bottom, right = self.padded(height) - height, self.padded(width) - width
        pad = torch.zeros(*frames.shape[:-3], height, width, dtype=torch.bool, device=frames.device)
        return F.pad(frames, (0, right, 0, bottom)), F.pad(pad, (0, right, 0, bottom), value=True)

    def padded(self, side: int) -> int:
        """The next multiple."""
        return -(-side // self.multiple) * self.multiple

    def resized(self, height: int, width: int, short_side: int | None) -> tuple[int, int]:
        """Height and width of the model's input for a frame, before padding.

        The short side becomes `short_side`, unless the long one would exceed `LONGEST`; None keeps the size.
        For models of squares, `short_side` is the side of the square.
        """
        if self.aspect == "square":
            side = self.padded(min(short_side or min(height, width), LONGEST))
            return side, side
        if self.aspect == "letterbox":
            scale = min(short_side or max(height, width), LONGEST) / max(height, width)
        elif short_side is None:
            return height, width
        else:
            scale = min(short_side / min(height, width), LONGEST / max(height, width))
        return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)

    def around(self, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """Height and width of the padded frames that hold resized ones of these sizes."""
        height, width = (self.padded(max(sides)) for sides in zip(*sizes, strict=True))
        return (max(height, width),) * 2 if self.aspect == "letterbox" else (height, width)


IMAGENET = Preprocessing()


def unpadded_sizes(pad: Tensor) -> Tensor:
    """[B, 2] width and height, in pixels, of the frames that `pad` [B, H, W] surrounds."""
    inside = ~pad
    return torch.stack([inside[:, 0, :].sum(-1), inside[:, :, 0].sum(-1)], -1).float()
