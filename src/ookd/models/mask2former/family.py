"""The records of Mask2Former and MaskFormer for frames, and of Mask2Former for clips."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ookd.config.tracker import OfflineConfig
from ookd.models.family import Family
from ookd.models.image_network import PAIRED
from ookd.models.mask2former.clip import Mask2FormerClip, Mask2FormerClipConfig
from ookd.models.mask2former.model import Mask2Former, Mask2FormerConfig, MaskFormer, MaskFormerConfig
from ookd.models.parts.mask_training import WEIGHTS, MaskClipTraining, MaskFrameTraining
from ookd.models.preprocess import IMAGENET


def _swin(width: int, depth: int, heads: int, window: int, queries: int = 100) -> dict[str, Any]:
    """A Swin backbone with these channels and heads in the first stage and layers in the third."""
    return {
        "backbone_config": {
            "model_type": "swin",
            "image_size": 224 if window == 7 else 384,
            "embed_dim": width,
            "depths": [2, 2, depth, 2],
            "num_heads": [heads * 2**stage for stage in range(4)],
            "window_size": window,
            "drop_path_rate": 0.3,
            "out_features": ["stage1", "stage2", "stage3", "stage4"],
        },
        "num_queries": queries,
    }


_SWINS = {
    "tiny": _swin(96, 6, 3, 7),
    "small": _swin(96, 18, 3, 7),
    "base": _swin(128, 18, 4, 12),
    "large": _swin(192, 18, 6, 12, queries=200),
}

MASK2FORMER = Family(
    name="mask2former",
    config=Mask2FormerConfig,
    network=Mask2Former,
    task=MaskFrameTraining,
    preprocessing=IMAGENET,
    loss_weights=WEIGHTS,
    presets={f"mask2former-swin-{size}": Mask2FormerConfig(network=net) for size, net in _SWINS.items()},
    tracker=PAIRED.changed({"short_side": 480}),
    backbone="net.model.pixel_level_module.encoder.",
    scores="softmax",
)

MASKFORMER = replace(
    MASK2FORMER,
    name="maskformer",
    config=MaskFormerConfig,
    network=MaskFormer,
    presets={
        "maskformer-swin-tiny": MaskFormerConfig(
            network={"backbone_config": _SWINS["tiny"]["backbone_config"]}
        )
    },
)

MASK2FORMER_CLIP = replace(
    MASK2FORMER,
    name="mask2former-clip",
    config=Mask2FormerClipConfig,
    network=Mask2FormerClip,
    task=MaskClipTraining,
    presets={
        f"mask2former-clip-swin-{size}": Mask2FormerClipConfig(network=net) for size, net in _SWINS.items()
    },
    tracker=OfflineConfig(short_side=360),  # published for YouTube-VIS
)
