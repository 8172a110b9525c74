"""The record of EoMT."""

from __future__ import annotations

from ookd.models.eomt.model import Eomt, EomtConfig
from ookd.models.family import Family
from ookd.models.image_network import PAIRED
from ookd.models.parts.mask_training import WEIGHTS, MaskFrameTraining
from ookd.models.preprocess import Preprocessing

_SIZES: dict[str, dict[str, int]] = {
    "small": {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "num_blocks": 3},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "num_blocks": 3},
    "large": {},  # what `transformers` takes where nothing else is said
}

EOMT = Family(
    name="eomt",
    config=EomtConfig,
    network=Eomt,
    task=MaskFrameTraining,
    # trained on images in the corner of black squares
    preprocessing=Preprocessing(aspect="letterbox", padding="black"),
    loss_weights=WEIGHTS,
    presets={
        **{f"eomt-{size}": EomtConfig(network=network) for size, network in _SIZES.items()},
        **{
            f"eomt-{size}-dinov3": EomtConfig(
                network={
                    **network,
                    "model_type": "eomt_dinov3",
                    "intermediate_size": 4 * network.get("hidden_size", 1024),
                }
            )
            for size, network in _SIZES.items()
        },
    },
    tracker=PAIRED,
    backbone="net.layers.",
    scores="softmax",
)
