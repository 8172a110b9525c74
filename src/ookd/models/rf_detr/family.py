"""The record of RF-DETR-Seg."""

from __future__ import annotations

from ookd.config.tracker import TrackerConfig
from ookd.models.family import Family
from ookd.models.preprocess import Preprocessing
from ookd.models.rf_detr.model import RfDetr, RfDetrConfig
from ookd.models.rf_detr.training import WEIGHTS, RfDetrTraining


def _seg(side: int, windows: int, layers: int, queries: int) -> RfDetrConfig:
    """The published sizes differ in these numbers."""
    return RfDetrConfig(
        network={
            "backbone_config": {
                "model_type": "rf_detr_dinov2",
                "hidden_size": 384,
                "num_attention_heads": 6,
                "image_size": side,
                "patch_size": 12,
                "num_windows": windows,
                "out_features": ["stage3", "stage6", "stage9", "stage12"],
            },
            "decoder_layers": layers,
            "decoder_n_points": 2,
            "num_queries": queries,
        }
    )


RF_DETR = Family(
    name="rf-detr",
    config=RfDetrConfig,
    network=RfDetr,
    task=RfDetrTraining,
    # 24 is a patch of 12 in each of two windows
    preprocessing=Preprocessing(multiple=24, aspect="square", antialias=False),
    loss_weights=WEIGHTS,
    presets={
        "rf-detr-seg-nano": _seg(312, 1, 4, 100),
        "rf-detr-seg-small": _seg(384, 2, 4, 100),
        "rf-detr-seg-medium": _seg(432, 2, 5, 200),
        "rf-detr-seg-large": _seg(504, 2, 5, 300),
        "rf-detr-seg-xlarge": _seg(624, 2, 6, 300),
        "rf-detr-seg-xxlarge": _seg(768, 2, 6, 300),
    },
    # a start for `ookd tune`, not a result
    tracker=TrackerConfig(
        similarity="cosine",
        scale=20.0,
        nearness=2.0,
        overlap=5.0,
        match=0.3,
        memory_length=5,
        horizon=20,
        mask_nms=0.8,
        select_score=0.2,
        first_score=0.4,
        new_score=0.4,
    ),
    backbone="net.",
)
