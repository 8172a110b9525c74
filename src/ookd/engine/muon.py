"""Muon beside AdamW: hidden matrices step along the orthogonal matrix that is nearest to their momentum.

All directions in which a matrix may move then move alike, also those that gradients rarely ask for: fewer
steps to the same loss (Jordan et al. 2024). The step is scaled as Liu et al. (2025, arXiv 2502.16982) do, to
about the size AdamW's has, so learning rate and decay mean the same for all parameters. torch.optim.Muon
takes matrices only, one by one; here kernels of convolutions are matrices too, and equal shapes go together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

ROUNDS = 5
QUINTIC = (3.4445, -4.7750, 2.0315)  # x -> a x + b x^3 + c x^5 takes singular values in (0, 1] to about 1
MOMENTUM = 0.95
SIZE = 0.2  # root mean square of an AdamW step in units of the learning rate
NARROW = 32  # what has fewer rows or columns is a last layer or a code, not a hidden matrix


class Muon(torch.optim.AdamW):
    """AdamW, but for groups with `orthogonal: True`; bfloat16 is enough for a direction, and quicker."""

    def __init__(self, groups: list[dict[str, Any]], lr: float, dtype: torch.dtype, **more: Any) -> None:
        super().__init__(groups, lr, **more)
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        for group in self.param_groups:
            if group.get("orthogonal"):
                self._turn(group)
        return super().step(closure)

    def _turn(self, group: dict[str, Any]) -> None:
        """Move the group's matrices, and take their gradients away so that AdamW passes them over."""
        alike: dict[torch.Size, list[tuple[nn.Parameter, Tensor]]] = {}
        for parameter in group["params"]:
            if parameter.grad is not None:
                ahead = self._ahead(parameter, parameter.grad).flatten(1)
                alike.setdefault(ahead.shape, []).append((parameter, ahead))
                parameter.grad = None
        for shape, pairs in alike.items():
            parameters, aheads = zip(*pairs, strict=True)
            size = group["lr"] * SIZE * max(shape) ** 0.5
            turned = orthogonal(torch.stack(aheads).to(self._dtype))
            for parameter, step in zip(parameters, turned, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(step.view_as(parameter), alpha=size)

    def _ahead(self, parameter: nn.Parameter, gradient: Tensor) -> Tensor:
        """The momentum (Nesterov's) with this gradient in it."""
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        return gradient.lerp(momentum, MOMENTUM)


def is_hidden(parameter: Tensor) -> bool:
    """Whether it is a matrix between hidden features; kernels of convolutions count as [outputs, rest]."""
    return parameter.dim() > 1 and min(parameter.flatten(1).shape) >= NARROW


def orthogonal(x: Tensor) -> Tensor:
    """[N, m, n] -> matrices with the same singular vectors whose singular values are all near 1.

    By the iteration of Newton and Schulz.
    """
    tall = x.shape[1] > x.shape[2]
    y = x.mT if tall else x
    y = y / (y.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = QUINTIC
    for _ in range(ROUNDS):
        square = y @ y.mT
        y = torch.baddbmm(y, torch.baddbmm(square, square, square, beta=b, alpha=c), y, beta=a)
    return y.mT if tall else y
