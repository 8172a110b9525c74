"""Small networks of `transformers` with random weights, one for each family around one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.tiny_videomt import TINY as TINY_VIDEOMT
from ookd.models import zoo
from ookd.models.families import preset
from ookd.models.protocols import Network

_SWIN = {
    "model_type": "swin",
    "embed_dim": 16,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 2, 2, 2],
    "window_size": 4,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
_MASK2FORMER = {
    "backbone_config": _SWIN,
    "hidden_dim": 32,
    "feature_size": 32,
    "mask_feature_size": 32,
    "encoder_layers": 2,
    "decoder_layers": 5,
    "num_attention_heads": 4,
    "encoder_feedforward_dim": 64,
    "dim_feedforward": 64,
    "num_queries": 10,
}
_EOMT = TINY_VIDEOMT  # the same body
TINY: dict[str, dict[str, Any]] = {  # preset: what differs
    "rf-detr-seg-small": {
        "backbone_config": {
            "model_type": "rf_detr_dinov2",
            "hidden_size": 32,
            "num_attention_heads": 2,
            "num_hidden_layers": 4,
            "image_size": 72,
            "patch_size": 12,
            "num_windows": 2,
            "out_features": ["stage2", "stage4"],
        },
        "d_model": 32,
        "decoder_layers": 2,
        "decoder_self_attention_heads": 2,
        "decoder_cross_attention_heads": 2,
        "decoder_ffn_dim": 64,
        "num_queries": 10,
        "group_detr": 2,
        "intermediate_size": 64,
    },
    "eomt-small": _EOMT,
    "eomt-large-dinov3": {**_EOMT, "model_type": "eomt_dinov3", "intermediate_size": 64},
    "mask2former-swin-tiny": _MASK2FORMER,
    "maskformer-swin-tiny": {
        "backbone_config": _SWIN,
        "decoder_config": {
            "model_type": "detr",
            "d_model": 32,
            "encoder_layers": 0,
            "decoder_layers": 2,
            "decoder_attention_heads": 4,
            "decoder_ffn_dim": 64,
            "num_queries": 10,
        },
        "mask_feature_size": 32,
        "fpn_feature_size": 32,
    },
    "mask2former-clip-swin-tiny": _MASK2FORMER,
}
FRAMES = [name for name in TINY if "-clip-" not in name]
CLIP = "mask2former-clip-swin-tiny"


def tiny(name: str, classes: int = 5, **changes: Any) -> Network:
    """A small model of the preset's family, always with the same weights."""
    torch.manual_seed(0)
    network = {**TINY[name], **changes.pop("network", {})}
    return zoo.build(preset(name, classes=classes, network=network, **changes)).eval()


def written(name: str, folder: Path, names: Sequence[str]) -> tuple[nn.Module, Path]:
    """The folder that `transformers` itself writes for such a network, and the network."""
    model: Any = tiny(name, classes=len(names))
    net = model.net
    net.config.id2label = dict(enumerate(names))
    net.config.label2id = {name: label for label, name in enumerate(names)}
    net.save_pretrained(folder)
    return net, folder
