"""Embeddings that tell the objects of a clip apart.

Shapes: F = B * T frames of B clips, Q queries, N instances (padded), D channels, h w a grid of cells.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ookd.losses import mean_over_ranks
from ookd.models.parts.grid import cells_at

TEMPERATURE = 20.0  # factor of the cosines between embeddings, as in the tracker


def contrast_loss(
    embed: Tensor, places: Tensor, query: Tensor, found: Tensor, masks: Tensor, frames: int
) -> Tensor:
    """Each instance that has a query [F, N] must be recognised among all queries of every other frame of its
    clip; masks [F, N, h, w].

    Unmatched queries inside the mask of the instance are neither right nor wrong.
    """
    f, q = embed.shape[:2]
    cell = cells_at(places, (masks.shape[-2], masks.shape[-1]))  # [F, Q]
    inside = masks.flatten(2).gather(2, cell.unsqueeze(1).expand(-1, query.shape[1], -1)) > 0.5
    taken = torch.zeros(f, q, dtype=torch.bool, device=embed.device)
    frame, instance = found.nonzero(as_tuple=True)
    taken[frame, query[frame, instance]] = True
    unsure = inside & ~taken.unsqueeze(1)  # [F, N, Q]
    unit = F.normalize(embed.float(), dim=-1).unflatten(0, (-1, frames))  # [B, T, Q, D]
    anchors = unit.gather(
        2, query.unflatten(0, (-1, frames)).unsqueeze(-1).expand(-1, -1, -1, unit.shape[-1])
    )
    logits = TEMPERATURE * torch.einsum("bind,bjqd->bijnq", anchors, unit)  # [B, T, T, N, Q]
    logits = logits.masked_fill(unsure.unflatten(0, (-1, frames)).unsqueeze(1), -math.inf)
    valid = found.unflatten(0, (-1, frames))
    both = valid.unsqueeze(2) & valid.unsqueeze(1)  # [B, T, T, N]
    both &= ~torch.eye(frames, dtype=torch.bool, device=embed.device)[None, :, :, None]
    wanted = query.unflatten(0, (-1, frames)).unsqueeze(1).expand(-1, frames, -1, -1)
    return F.cross_entropy(logits[both], wanted[both], reduction="sum") / mean_over_ranks(
        both.sum(), both.device
    ).clamp(min=1)
