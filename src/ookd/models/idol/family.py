"""The record of IDOL."""

from __future__ import annotations

from ookd.config.tracker import TrackerConfig
from ookd.models.backbones.resnet import ResNetConfig
from ookd.models.backbones.swin import SwinConfig
from ookd.models.family import Family
from ookd.models.idol.model import Idol, IdolConfig
from ookd.models.idol.training import WEIGHTS, IdolTraining
from ookd.models.preprocess import IMAGENET

IDOL = Family(
    name="idol",
    config=IdolConfig,
    network=Idol,
    task=IdolTraining,
    preprocessing=IMAGENET,
    loss_weights=WEIGHTS,
    presets={
        "idol-r50": IdolConfig(),
        "idol-r101": IdolConfig(backbone=ResNetConfig(depth=101)),
        "idol-swin-l": IdolConfig(backbone=SwinConfig()),
    },
    tracker=TrackerConfig(short_side=480),  # published for YouTube-VIS
    tracker_variants={"ovis": TrackerConfig(short_side=720, mask_nms=0.3, new_score=0.3)},
    backbone="pixels.backbone.",
    dense=(
        "pixels.*",
        "*.attention.values",
        "mask_head.coarse",
        "mask_head.middle",
        "mask_head.fine",
        "mask_head.reduce",
    ),
    broad=("decoder.*.feed_forward.*", "decoder.*.attention.output"),
)
