"""The record of SeqFormer."""

from __future__ import annotations

from ookd.config.tracker import OfflineConfig
from ookd.models.backbones.swin import SwinConfig
from ookd.models.family import Family
from ookd.models.preprocess import IMAGENET
from ookd.models.seqformer.model import SeqFormer, SeqFormerConfig
from ookd.models.seqformer.training import WEIGHTS, SeqFormerTraining

SEQFORMER = Family(
    name="seqformer",
    config=SeqFormerConfig,
    network=SeqFormer,
    task=SeqFormerTraining,
    preprocessing=IMAGENET,
    loss_weights=WEIGHTS,
    presets={
        "seqformer-r50": SeqFormerConfig(),
        "seqformer-swin-l": SeqFormerConfig(backbone=SwinConfig()),
    },
    tracker=OfflineConfig(),
    backbone="pixels.backbone.",
)
