"""Layers that training treats in a special way: recomputed, sharded or frozen."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.utils.checkpoint import checkpoint


def layers_of(module: nn.Module) -> Iterator[nn.Module]:
    """The innermost modules that are in a list or sequence and have children, such as transformer layers."""
    for child in module.children():
        inner = list(layers_of(child))
        yield from inner
        listed = isinstance(module, nn.ModuleList | nn.Sequential)
        if listed and not inner and not isinstance(child, nn.Sequential) and any(child.children()):
            yield child


def recompute(module: nn.Module) -> None:
    """Keep only the input of each layer and recompute the rest for the gradient. Results stay the same."""
    for layer in layers_of(module):
        if any(parameter.requires_grad for parameter in layer.parameters()):
            forward: Any = layer.forward
            layer.forward = partial(checkpoint, forward, use_reentrant=False)


def shard(module: nn.Module, device: str, processes: int) -> None:
    """Split weights, gradients and optimiser state over the processes (FSDP2), layer by layer."""
    mesh = init_device_mesh(device, (processes,))
    for layer in layers_of(module):
        fully_shard(layer, mesh=mesh)
    fully_shard(module, mesh=mesh)


def freeze_norms(module: nn.Module) -> None:
    """Keep batch norms as they are: a few frames are too few for their statistics."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval().requires_grad_(False)
