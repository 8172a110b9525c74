"""Masks as products of a key for each query and the features of each pixel."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def product_masks(key: Tensor, pixels: Tensor, bias: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    """key [B, Q, C], pixels [B, C, h, w] -> a function from select [B, N] to mask logits [B, N, h, w].

    For clips, pixels [B, T, C, h, w] give [B, N, T, h, w].
    """
    product = "bnc,bchw->bnhw" if pixels.dim() == 4 else "bnc,btchw->bnthw"

    def masks(select: Tensor) -> Tensor:
        chosen = key.gather(1, select.unsqueeze(-1).expand(-1, -1, key.shape[-1]))
        logits = torch.einsum(product, chosen, pixels)
        return logits if bias is None else logits + bias

    return masks
