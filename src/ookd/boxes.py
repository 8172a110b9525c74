"""Box arithmetic. All functions broadcast, so `iou(a[:, None], b)` is pairwise and `iou(a, b)` is not."""

from __future__ import annotations

import torch
from torch import Tensor


def to_xyxy(boxes: Tensor) -> Tensor:
    """Centre and size -> corners [..., 4]."""
    centre, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([centre - 0.5 * size, centre + 0.5 * size], -1)


def area(boxes: Tensor) -> Tensor:
    """Area of corner boxes [..., 4]; zero for an inside-out one."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def _overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection and union of corner boxes."""
    corners = torch.cat([torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])], -1)
    shared = area(corners)
    return shared, area(a) + area(b) - shared


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of corner boxes [..., 4]; 0 for two empty boxes."""
    shared, union = _overlap(a, b)
    return shared / union.clamp(min=torch.finfo(union.dtype).tiny)


def giou(a: Tensor, b: Tensor, eps: float = 0.0) -> Tensor:
    """Generalised IoU of corner boxes [..., 4], in -1..1. `eps` softens the union for use as a loss."""
    shared, union = _overlap(a, b)
    hull = area(torch.cat([torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])], -1))
    overlap = shared / (union + eps).clamp(min=torch.finfo(union.dtype).tiny)
    return overlap - (hull - union) / (hull + 1e-7)
