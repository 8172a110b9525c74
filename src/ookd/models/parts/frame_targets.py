"""The ground truth of single frames as grids, and what a class heat-map and placed queries learn from it.

Shapes: F frames, A auxiliary queries, N instances (padded), K classes, h w a grid of cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ookd.losses import heatmap_focal, mean_over_ranks
from ookd.models.parts.grid import centres_of
from ookd.structures import Tracks

FINEST = 2  # stride of the finest masks


@dataclass(slots=True)
class FrameTargets:
    """The ground truth of F frames, padded to N instances."""

    labels: Tensor  # [F, N] int64
    masks: dict[int, Tensor]  # stride 2, 4, 8 -> [F, N, h, w] covered share of each cell
    valid: Tensor  # [F, N] bool: there, and in view
    ignore: Tensor | None = None  # [F, h, w] at stride 4, covered share of what is to be ignored
    weights: Tensor | None = None  # [F, N] of mask and class losses; None: all 1


def frame_targets(tracks: list[Tracks]) -> FrameTargets:
    """The ground truth of clips, frame by frame."""
    most = max(1, *(len(x) for x in tracks)) if tracks else 1

    def padded(x: Tensor) -> Tensor:  # [n, ...] -> [most, ...]
        return F.pad(x, [0, 0] * (x.dim() - 1) + [0, most - len(x)])

    labels, masks, valid, weights = [], [], [], []
    for clip in tracks:
        frames = clip.visible.shape[1]
        soft = F.avg_pool2d(clip.masks.float(), FINEST)
        masks.append(padded(soft).transpose(0, 1))
        valid.append(padded(clip.visible).T)
        labels.append(padded(clip.labels).expand(frames, -1))
        known = torch.ones_like(clip.visible, dtype=torch.float32) if clip.weights is None else clip.weights
        weights.append(padded(known).T)
    pyramid = {FINEST: torch.cat(masks)}
    for stride in (4, 8):
        pyramid[stride] = F.avg_pool2d(pyramid[stride // 2], 2)
    weighed = any(clip.weights is not None for clip in tracks)
    return FrameTargets(
        torch.cat(labels),
        pyramid,
        torch.cat(valid),
        _ignored(tracks),
        torch.cat(weights) if weighed else None,
    )


def _ignored(tracks: list[Tracks]) -> Tensor | None:
    if all(clip.ignore is None for clip in tracks):
        return None
    frames = [
        clip.masks.new_zeros(clip.masks.shape[1:]) if clip.ignore is None else clip.ignore for clip in tracks
    ]
    return F.avg_pool2d(torch.cat(frames).float(), 4)


@torch.no_grad()
def lies_in(masks: Tensor, region: Tensor) -> Tensor:
    """Whether more than half of each mask lies in a region: logits [R, Q, ...] and shares [R, ...] -> [R, Q].

    So a query that found something there is not taught that it is nothing. An empty mask lies nowhere.
    """
    inside = (masks.flatten(2) > 0).float()
    with torch.autocast(inside.device.type, enabled=False):
        shared = (inside @ region.float().flatten(1).unsqueeze(2)).squeeze(2)
    return shared > 0.5 * inside.sum(2)


def places_inside(targets: FrameTargets, chance: Tensor) -> tuple[Tensor, Tensor]:
    """Random places inside random visible instances, from random numbers `chance` [F, A, 2] in 0..1.

    Returns the places [F, A, 2] and their instances [F, A].
    """
    masks = targets.masks[4]
    height, width = masks.shape[-2:]
    share = (targets.valid.float() + 1e-6).cumsum(1)  # [F, N]
    owner = torch.searchsorted(share, chance[..., 0] * share[:, -1:]).clamp(max=share.shape[1] - 1)
    frame = torch.arange(len(owner), device=owner.device).unsqueeze(1)
    inside = (masks.flatten(2) + 1e-9).cumsum(2)[frame, owner]  # [F, A, hw]
    cell = torch.searchsorted(inside, chance[..., 1:] * inside[..., -1:]).squeeze(-1)
    return centres_of(cell.clamp(max=height * width - 1), (height, width)), owner


def heat_loss(logits: Tensor, targets: FrameTargets) -> Tensor:
    """Focal loss of the class heat-map [F, K, h, w] towards a peak in the middle of every instance."""
    masks = targets.masks[8]
    height, width = masks.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=masks.device), torch.arange(width, device=masks.device), indexing="ij"
    )
    area = masks.sum((2, 3)).clamp(min=1e-3)
    cy = (masks * y).sum((2, 3)) / area
    cx = (masks * x).sum((2, 3)) / area
    away = (y - cy[..., None, None]) ** 2 + (x - cx[..., None, None]) ** 2
    inside = torch.where(masks >= masks.amax((2, 3), keepdim=True).clamp(max=0.5), away, torch.inf)
    cell = inside.flatten(2).argmin(2)  # [F, N] the covered cell nearest to the centroid
    py, px = torch.div(cell, width, rounding_mode="floor"), cell % width
    spread = (area.sqrt() / 5).clamp(min=0.7)[..., None, None]
    distance = (y - py[..., None, None]) ** 2 + (x - px[..., None, None]) ** 2
    blob = torch.exp(-distance / (2 * spread**2)) * targets.valid[..., None, None]  # [F, N, h, w]
    heat = torch.zeros(logits.shape, device=logits.device)
    index = targets.labels[..., None, None].expand_as(blob)
    heat.scatter_reduce_(1, index, blob, "amax")
    loss = heatmap_focal(logits, heat)
    if targets.ignore is not None:
        unknown = F.avg_pool2d(targets.ignore, 2).unsqueeze(1) > 0.5
        loss = loss.masked_fill(unknown & (heat < 1), 0.0)
    return loss.sum() / mean_over_ranks(targets.valid.sum(), heat.device).clamp(min=1)
