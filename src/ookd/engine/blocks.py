"""The parts of a model that training treats in their own way: computed again, shared out, or frozen."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.utils.checkpoint import checkpoint


def blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The innermost parts that stand in a list or sequence and have parts of their own, such as layers."""
    for child in module.children():
        inner = list(blocks(child))
        yield from inner
        listed = isinstance(module, nn.ModuleList | nn.Sequential)
        if listed and not inner and not isinstance(child, nn.Sequential) and any(child.children()):
            yield child


def recompute(module: nn.Module) -> None:
    """Keep only what enters each block and compute the rest again for its gradient; numbers stay the same."""
    for block in blocks(module):
        if any(parameter.requires_grad for parameter in block.parameters()):
            forward: Any = block.forward
            block.forward = partial(checkpoint, forward, use_reentrant=False)


def share_out(module: nn.Module, device: str, processes: int) -> None:
    """Split weights, gradients and optimiser state over the processes (FSDP2), block by block."""
    mesh = init_device_mesh(device, (processes,))
    for block in blocks(module):
        fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)


def freeze_norms(module: nn.Module) -> None:
    """Batch norms stay as they are: a few frames could not tell their statistics."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval().requires_grad_(False)
