"""Muon with AdamW: a hidden matrix moves along the orthogonal matrix that is nearest to its momentum.

So a matrix moves equally far in all directions, even in those that gradients rarely point to, and reaches the
same loss in fewer steps (Jordan et al. 2024). The step is scaled to about the size of an AdamW step (Liu et
al. 2025, arXiv 2502.16982), so learning rate and weight decay mean the same for all parameters.

Unlike torch.optim.Muon, convolution kernels count as matrices, and matrices of equal shape are processed
together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

ROUNDS = 5
QUINTIC = (3.4445, -4.7750, 2.0315)  # x -> a x + b x^3 + c x^5 takes singular values in (0, 1] to about 1
MOMENTUM = 0.95
STEP_SIZE = 0.2  # root mean square of an AdamW step, in units of the learning rate
MIN_SIZE = 32  # with fewer rows or columns, it is an output layer or an embedding, not a hidden matrix


class Muon(torch.optim.AdamW):
    """AdamW, except for groups with `orthogonal: True`. `dtype` is that of the orthogonalisation."""

    def __init__(self, groups: list[dict[str, Any]], lr: float, dtype: torch.dtype, **more: Any) -> None:
        super().__init__(groups, lr, **more)
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        for group in self.param_groups:
            if group.get("orthogonal"):
                self._orthogonal_step(group)
        return super().step(closure)

    def _orthogonal_step(self, group: dict[str, Any]) -> None:
        """Move the matrices of a group and remove their gradients, so that AdamW skips them."""
        by_shape: dict[torch.Size, list[tuple[nn.Parameter, Tensor]]] = {}
        for parameter in group["params"]:
            if parameter.grad is not None:
                direction = self._momentum(parameter, parameter.grad).flatten(1)
                by_shape.setdefault(direction.shape, []).append((parameter, direction))
                parameter.grad = None
        for shape, pairs in by_shape.items():
            parameters, directions = zip(*pairs, strict=True)
            size = group["lr"] * STEP_SIZE * max(shape) ** 0.5
            steps = orthogonal(torch.stack(directions).to(self._dtype))
            for parameter, step in zip(parameters, steps, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(step.view_as(parameter), alpha=size)

    def _momentum(self, parameter: nn.Parameter, gradient: Tensor) -> Tensor:
        """The Nesterov momentum, this gradient included."""
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        return gradient.lerp(momentum, MOMENTUM)


def is_hidden(parameter: Tensor) -> bool:
    """Whether it is a matrix between hidden features. A convolution kernel counts as [outputs, rest]."""
    return parameter.dim() > 1 and min(parameter.flatten(1).shape) >= MIN_SIZE


def orthogonal(x: Tensor) -> Tensor:
    """[N, m, n] -> matrices with the same singular vectors and all singular values near 1 (Newton-Schulz)."""
    tall = x.shape[1] > x.shape[2]
    y = x.mT if tall else x
    y = y / (y.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = QUINTIC
    for _ in range(ROUNDS):
        square = y @ y.mT
        y = torch.baddbmm(y, torch.baddbmm(square, square, square, beta=b, alpha=c), y, beta=a)
    return y.mT if tall else y
