"""DINOv2 with registers, published for patches of 14 pixels, as the start of a VidEoMT.

The patch kernels and the table of positions are resized. The class token's own position is added to the
token, because the network gives positions to patches only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ookd.errors import UserError
from ookd.models.parts.position_table import resized_table

# names in their files -> names in VidEoMT
_RENAMED = (
    (r"embeddings\.(cls_token|register_tokens)", r"embeddings.\1"),
    (r"embeddings\.patch_embeddings\.projection\.(\w+)", r"embeddings.patch_embeddings.projection.\1"),
    (r"embeddings\.position_embeddings", r"embeddings.position_embeddings.weight"),
    (r"encoder\.layer\.(\d+)\.attention\.attention\.query\.(\w+)", r"layers.\1.attention.q_proj.\2"),
    (r"encoder\.layer\.(\d+)\.attention\.attention\.key\.(\w+)", r"layers.\1.attention.k_proj.\2"),
    (r"encoder\.layer\.(\d+)\.attention\.attention\.value\.(\w+)", r"layers.\1.attention.v_proj.\2"),
    (r"encoder\.layer\.(\d+)\.attention\.output\.dense\.(\w+)", r"layers.\1.attention.out_proj.\2"),
    (r"encoder\.layer\.(\d+)\.(layer_scale\d|norm\d|mlp)\.(.+)", r"layers.\1.\2.\3"),
    (r"layernorm\.(\w+)", r"layernorm.\1"),
)


def from_dinov2(theirs: Mapping[str, Tensor], patch: int, side: int) -> dict[str, Tensor]:
    """The weights of a DINOv2 file for patches of `patch` pixels and a table of side x side positions."""
    ours: dict[str, Tensor] = {}
    for name, tensor in theirs.items():
        if name == "embeddings.mask_token":  # of its own training
            continue
        fitting = ((pattern, new) for pattern, new in _RENAMED if re.fullmatch(pattern, name))
        pattern, new = next(fitting, ("", ""))
        if not pattern:
            raise UserError(f"{name} is not part of a DINOv2 with registers")
        ours[re.sub(pattern, new, name)] = tensor.float()
    missing = {"embeddings.cls_token", "embeddings.register_tokens"} - ours.keys()
    if missing:
        raise UserError(f"{sorted(missing)[0]} is missing: not a DINOv2 with registers")
    places = ours.pop("embeddings.position_embeddings.weight")[0]  # [1 + n * n, D]
    kernel = ours["embeddings.patch_embeddings.projection.weight"]
    ours["embeddings.patch_embeddings.projection.weight"] = resized_kernel(kernel, patch)
    ours["embeddings.cls_token"] = ours["embeddings.cls_token"] + places[0]
    ours["embeddings.position_embeddings.weight"] = resized_table(places[1:], (side, side))
    return ours


def resized_kernel(kernel: Tensor, side: int) -> Tensor:
    """Patch kernels [D, C, n, n] for patches of another side, which give the answers of a resized patch.

    From "FlexiViT": if `up` resizes a patch to the new side, the new kernel w' solves up^T w' = w.
    """
    before = kernel.shape[-1]
    if side == before:
        return kernel
    cells = torch.eye(before * before).unflatten(1, (1, before, before))
    up = F.interpolate(cells, (side, side), mode="bicubic", antialias=True, align_corners=False).flatten(1)
    return (kernel.float().flatten(2) @ torch.linalg.pinv(up).T).unflatten(2, (side, side))
