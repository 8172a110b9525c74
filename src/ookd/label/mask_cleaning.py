"""Clean masks of promptable models: no near-duplicates, holes or specks, and no pixel with two owners.

SAM 3 in `transformers` leaves the first three to compiled CUDA functions, and silently skips them if these
are missing. `MaskKernels` does the same on any device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ookd.data import rle
from ookd.structures import Rle


class MaskKernels:
    """The functions that SAM 3 calls, under its names for them."""

    @staticmethod
    def generic_nms(overlap: Tensor, scores: Tensor, threshold: float, **_: Any) -> Tensor:
        """The rows [M] to keep of `overlap` [N, N], best first. A kept row removes those it overlaps more."""
        kept: list[int] = []
        for row in scores.argsort(descending=True, stable=True).tolist():
            if not kept or float(overlap[row, kept].max()) <= threshold:
                kept.append(row)
        return torch.tensor(kept, dtype=torch.long, device=overlap.device)

    @staticmethod
    def cc_2d(masks: Tensor, **_: Any) -> tuple[Tensor, Tensor]:
        """Numbers of the connected parts of masks [N, 1, H, W], and at each pixel the size of its part."""
        labels = torch.zeros(masks.shape, dtype=torch.int32)
        sizes = torch.zeros(masks.shape, dtype=torch.int32)
        for n, mask in enumerate(masks[:, 0].cpu().numpy()):
            _count, parts, stats, _centres = cv2.connectedComponentsWithStats(mask, connectivity=8)
            area = stats[:, cv2.CC_STAT_AREA].astype(np.int32)
            area[0] = 0
            labels[n, 0], sizes[n, 0] = torch.from_numpy(parts), torch.from_numpy(area[parts])
        return labels.to(masks.device), sizes.to(masks.device)


def without_specks(logits: Tensor, area: int) -> Tensor:
    """Mask logits [N, h, w] with holes and specks of at most `area` cells filled and removed.

    A speck is also smaller than half of its mask, so that tiny objects do not vanish.
    """
    if not len(logits) or area <= 0:
        return logits
    inside = (logits > 0).unsqueeze(1)
    _, holes = MaskKernels.cc_2d((~inside).to(torch.uint8))
    logits = torch.where((~inside & (holes <= area)).squeeze(1), 0.1, logits)
    inside = (logits > 0).unsqueeze(1)
    _, parts = MaskKernels.cc_2d(inside.to(torch.uint8))
    least = (inside.sum((2, 3), keepdim=True) // 2).clamp(max=area)
    return torch.where((inside & (parts <= least)).squeeze(1), -0.1, logits)


def apart(logits: Tensor, scores: Sequence[float], groups: Sequence[int]) -> Tensor:
    """Mask logits [N, h, w] in which each cell has one owner per group: the mask of the highest score."""
    result = logits.clone()
    order = sorted(range(len(logits)), key=lambda n: -scores[n])
    for place, n in enumerate(order):
        for better in order[:place]:
            if groups[better] == groups[n]:
                result[n] = torch.where(logits[better] > 0, result[n].clamp(max=-0.1), result[n])
    return result


def encoded(logits: Tensor, height: int, width: int) -> list[Rle | None]:
    """Masks of the whole frame as run lengths, one after the other; None for an empty one."""
    masks: list[Rle | None] = []
    for one in logits:
        full = F.interpolate(one[None, None].float(), (height, width), mode="bilinear", align_corners=False)
        mask = (full[0, 0] > 0).cpu().numpy()
        masks.append(rle.encode(mask) if mask.any() else None)
    return masks
