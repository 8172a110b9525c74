"""The feed-forward half of transformer layers."""

from __future__ import annotations

from torch import Tensor, nn


class FeedForward(nn.Module):
    """Two linear layers with ReLU between them."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.inner = nn.Linear(dim, inner)
        self.outer = nn.Linear(inner, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.inner(x).relu())


class ResidualFeedForward(FeedForward):
    """The same with dropout, the residual and its norm."""

    def __init__(self, dim: int, inner: int, dropout: float) -> None:
        super().__init__(dim, inner)
        for linear in (self.inner, self.outer):
            nn.init.xavier_uniform_(linear.weight)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.dropout(self.outer(self.dropout(self.inner(x).relu()))))
