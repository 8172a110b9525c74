"""Masks by dynamic convolution: every query has the weights of its own tiny network over shared maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ookd.models.parts.heads import Mlp

CHANNELS = 8  # of the shared maps, and of the dynamic network's two hidden layers
STRIDE = 8  # of the shared maps; masks have half of it
INPUTS = CHANNELS + 2  # the maps, and the distance to the query's reference point in x and y
# All weights come first, then all biases.
PARAMETERS = (CHANNELS * INPUTS, CHANNELS * CHANNELS, CHANNELS, CHANNELS, CHANNELS, 1)


class MaskHead(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.coarse = nn.Conv2d(dim, dim, 3, padding=1)  # stride 32
        self.middle = nn.Conv2d(dim, dim, 3, padding=1)  # stride 16
        self.fine = nn.Conv2d(dim, dim, 3, padding=1)  # stride 8
        self.reduce = nn.Conv2d(dim, dim // 4, 3, padding=1)
        self.features = nn.Conv2d(dim // 4, CHANNELS, 3, padding=1)
        self.controller = Mlp(dim, sum(PARAMETERS))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        for linear in self.controller.layers:
            assert isinstance(linear, nn.Linear)
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def maps(self, memory: list[Tensor]) -> Tensor:
        """Shared maps [B, 8, h, w] from the encoder's maps, finest first; never negative."""
        fine, middle, coarse = memory[:3]
        x = self.coarse(coarse).relu()
        x = self.middle(middle + F.interpolate(x, middle.shape[-2:])).relu()
        x = self.fine(fine + F.interpolate(x, fine.shape[-2:])).relu()
        return self.features(self.reduce(x).relu()).relu()

    def forward(self, queries: Tensor, points: Tensor, maps: Tensor) -> Tensor:
        """Mask logits [B, N, 2h, 2w] of queries [B, N, D] with reference points [B, N, 2] in pixels."""
        return upsample(dynamic_masks(self.controller(queries), points, maps))


def dynamic_masks(parameters: Tensor, points: Tensor, maps: Tensor) -> Tensor:
    """Run the network of every query [B, N, 169] over the maps [B, 8, h, w]: logits [B, N, h, w].

    Its two coordinate inputs are the distances in pixels from the cell to the reference point. They enter
    the first layer linearly, one along rows and one along columns, so they are added in float32 to the
    product with the shared maps instead of being laid out as maps of their own.
    """
    h, w = maps.shape[-2:]
    parameters, maps = parameters.float(), maps.float().flatten(2)  # maps [B, 8, hw]
    w0, w1, w2, b0, b1, b2 = parameters.split(PARAMETERS, -1)
    w0 = w0.unflatten(-1, (CHANNELS, INPUTS))  # [B, N, 8, 10]
    away_x = points[..., 0:1] - _cells(w, points)  # [B, N, w]
    away_y = points[..., 1:2] - _cells(h, points)  # [B, N, h]
    along_x = w0[..., 0:1] * away_x.unsqueeze(-2) + b0.unsqueeze(-1)  # [B, N, 8, w]
    along_y = w0[..., 1:2] * away_y.unsqueeze(-2)  # [B, N, 8, h]
    away = (along_y.unsqueeze(-1) + along_x.unsqueeze(-2)).flatten(-2)  # [B, N, 8, hw]
    shared = w0[..., 2:].flatten(1, 2) @ maps  # [B, N*8, hw]
    x = (shared.unflatten(1, (-1, CHANNELS)) + away).relu()
    x = (w1.unflatten(-1, (CHANNELS, CHANNELS)) @ x + b1.unsqueeze(-1)).relu()
    x = w2.unsqueeze(-2) @ x + b2.unsqueeze(-1)  # [B, N, 1, hw]
    return x.squeeze(-2).unflatten(-1, (h, w))


def _cells(count: int, like: Tensor) -> Tensor:
    """Centres of the cells along one axis, in pixels."""
    return torch.arange(count, device=like.device, dtype=torch.float32) * STRIDE + STRIDE // 2


def upsample(x: Tensor) -> Tensor:
    """Double the last two axes: every cell keeps its value at odd places, and even places are interpolated.

    The first row and column repeat, which keeps pixel corners aligned with the image.
    """
    for axis in (-2, -1):
        size = x.shape[axis]
        before = torch.cat([x.narrow(axis, 0, 1), x.narrow(axis, 0, size - 1)], axis)
        x = torch.stack([(before + x) / 2, x], axis).flatten(axis - 1, axis)
    return x
