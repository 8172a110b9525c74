"""The attention of all compact networks."""

from __future__ import annotations

from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention step by step: faster than the fused one on CPUs in bfloat16, and it exports."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
        """query [B, Q, D], key and value [B, S, D], bias of the logits [B or 1, Q or 1, S] -> [B, Q, D]."""
        q, k, v = (self._split(x) for x in (self.query(query), self.key(key), self.value(value)))
        logits = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5)
        if bias is not None:
            logits = logits + bias.unsqueeze(1)
        mixed = logits.softmax(-1).to(v.dtype) @ v
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
