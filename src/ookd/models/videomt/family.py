"""The record of VidEoMT."""

from __future__ import annotations

from ookd.config.tracker import TrackerConfig
from ookd.models.family import Family
from ookd.models.preprocess import Preprocessing
from ookd.models.videomt.model import MULTIPLE, Videomt, VideomtConfig
from ookd.models.videomt.training import WEIGHTS, VideomtTraining

_DINO = "facebook/dinov2-with-registers-"
_SMALL = {"backbone": f"{_DINO}small"}
_BASE = {"backbone": f"{_DINO}base", "hidden_size": 768, "num_attention_heads": 12}
_LARGE = {
    "backbone": f"{_DINO}large",
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_blocks": 4,
}
# for learning from scratch on few classes
_TINY = {
    "hidden_size": 192,
    "num_hidden_layers": 10,
    "num_attention_heads": 3,
    "num_queries": 50,
    "image_size": 320,
    "train_num_points": 2048,
}

VIDEOMT = Family(
    name="videomt",
    config=VideomtConfig,
    network=Videomt,
    task=VideomtTraining,
    preprocessing=Preprocessing(multiple=MULTIPLE),
    loss_weights=WEIGHTS,
    presets={
        "videomt-tiny": VideomtConfig.model_validate(_TINY),
        "videomt-s": VideomtConfig.model_validate(_SMALL),
        "videomt-b": VideomtConfig.model_validate(_BASE),
        "videomt-l": VideomtConfig.model_validate(_LARGE),
    },
    # A query is an object for good, as published. The thresholds are for looking at: `pool: logits` and
    # thresholds of 0 give the published answer about whole videos.
    tracker=TrackerConfig(
        short_side=448,
        associator="slot",
        mask_nms=0.8,
        select_score=0.05,
        first_score=0.3,
        new_score=0.3,
        horizon=1_000_000,
    ),
    tracker_variants={"ovis": TrackerConfig(short_side=544)},
    backbone="net.layers.",
    scores="softmax",
    dense=("net.layers.*",),
)
