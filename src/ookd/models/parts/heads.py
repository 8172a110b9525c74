"""Small heads on decoder outputs: class, box, embedding."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Mlp(nn.Module):
    """Three linear layers with ReLU between them."""

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, outputs)])

    def forward(self, x: Tensor) -> Tensor:
        first, second, last = self.layers
        return last(second(first(x).relu()).relu())


def class_head(dim: int, classes: int) -> nn.Linear:
    """Sigmoid classes, at first of probability 0.01, so that the many empty queries do not dominate."""
    head = nn.Linear(dim, classes)
    nn.init.constant_(head.bias, -math.log(99))
    return head


def box_head(dim: int, first: bool) -> Mlp:
    """Box refinement. At first it moves nothing, and the boxes of the first layer are small."""
    head = Mlp(dim, 4)
    last = head.layers[-1]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    if first:
        nn.init.constant_(last.bias[2:], -2.0)
    return head


def inverse_sigmoid(x: Tensor) -> Tensor:
    x = x.clamp(0, 1)
    return torch.log(x.clamp(min=1e-5) / (1 - x).clamp(min=1e-5))


def refine(delta: Tensor, reference: Tensor) -> Tensor:
    """A box [..., 4] from the box head's output and the point [..., 2] or box [..., 4] before it."""
    start = inverse_sigmoid(reference)
    if reference.shape[-1] == 2:  # a point gives no size
        start = torch.cat([start, torch.zeros_like(start)], -1)
    return (delta.float() + start).sigmoid()
