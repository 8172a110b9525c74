"""Published weight files as our models."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ookd import limits
from ookd.errors import UserError
from ookd.models import zoo
from ookd.models.backbones import build as backbone
from ookd.models.backbones.resnet import BLOCKS, ResNetConfig
from ookd.models.backbones.swin import SwinConfig
from ookd.models.idol.model import Idol, IdolConfig
from ookd.models.parts.pixel_encoder import LEVELS
from ookd.models.seqformer.model import SeqFormer, SeqFormerConfig
from ookd.models.upstream import BACKBONE
from ookd.untrusted import check_file

HEADS = 8  # of every published model; the shapes do not show it

# Training programs store numpy numbers with the weights, under the old or new name of numpy's module.
_scalar = np.float64(0).__reduce__()[0]
_NUMBERS: list[Any] = [
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?")),
    *((_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The weights of a PyTorch file. No code in it is run."""
    check_file(path, limits.WEIGHTS)
    try:
        with torch.serialization.safe_globals(_NUMBERS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"{path}: not a PyTorch file with weights only (a .pkl of detectron2 is not one): "
            + _reason(error)
        ) from error
    for wrapper in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path}: holds no weights by name")
    others = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise UserError(f"{path}: not weights: {', '.join(sorted(others))}")
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def _reason(error: Exception) -> str:
    """What the file would have run, instead of PyTorch's advice to trust it."""
    if refused := re.search(r"GLOBAL (\S+)", str(error)):
        return f"it would run {refused[1]}"
    return str(error).strip().split("\n")[0]


def is_backbone(ours: Mapping[str, Tensor]) -> bool:
    return all(name.startswith(BACKBONE) for name in ours)


def to_model(ours: Mapping[str, Tensor]) -> Idol | SeqFormer:
    """The whole published model. Its configuration follows from the shapes."""
    config = infer_config(ours)
    model = Idol(config) if isinstance(config, IdolConfig) else SeqFormer(config)
    odd = zoo.misfits(model.state_dict(), ours)
    if odd:
        raise UserError(f"{len(odd)} weights do not fit {config.family}: {'; '.join(odd)}")
    model.load_state_dict(ours)
    return model


def to_backbone(ours: Mapping[str, Tensor]) -> ResNetConfig | SwinConfig:
    """The configuration of a whole backbone. Swin's output norms exist in detection models only."""
    try:
        config = infer_backbone(ours)
    except KeyError as error:
        raise UserError(f"not a whole backbone: {error.args[0]} is missing") from error
    with torch.device("meta"):
        model = backbone.build(config)
    whole = {BACKBONE + name: value for name, value in model.state_dict().items()}
    norm = re.compile(re.escape(BACKBONE) + r"norm\d\..+")
    expected = {name: value for name, value in whole.items() if name in ours or not norm.fullmatch(name)}
    if odd := zoo.misfits(expected, ours):
        raise UserError(f"{len(odd)} weights do not fit a {config.kind}: {'; '.join(odd)}")
    return config


def infer_config(ours: Mapping[str, Tensor]) -> IdolConfig | SeqFormerConfig:
    """The configuration that fits a model's weights under our names."""
    family = SeqFormerConfig if any(".time." in name for name in ours) else IdolConfig
    try:
        queries, twice = ours["decoder.start.codes.weight"].shape
        return family(
            backbone=infer_backbone(ours),
            classes=len(ours["class_heads.0.weight"]),
            queries=queries,
            dim=twice // 2,
            heads=HEADS,
            points=len(ours["decoder.layers.0.attention.weights.weight"]) // (HEADS * LEVELS),
            encoder_layers=_count(ours, r"pixels\.layers\.(\d+)\..+"),
            decoder_layers=_count(ours, r"decoder\.layers\.(\d+)\..+"),
            ffn=len(ours["decoder.layers.0.feed_forward.inner.weight"]),
        )
    except KeyError as error:
        raise UserError(f"not a whole IDOL or SeqFormer: {error.args[0]} is missing") from error


def infer_backbone(ours: Mapping[str, Tensor]) -> ResNetConfig | SwinConfig:
    """The configuration that fits weights named `pixels.backbone.*`."""
    stages = range(4)
    if f"{BACKBONE}stem.0.weight" in ours:
        blocks = tuple(_count(ours, rf"{BACKBONE}stages\.res{stage + 2}\.(\d+)\..+") for stage in stages)
        for depth, known in BLOCKS.items():
            if blocks == known:
                width = len(ours[f"{BACKBONE}stem.0.weight"])
                return ResNetConfig.model_validate({"depth": depth, "width": width})
        raise UserError(f"a ResNet with {blocks} blocks in its stages; choose from {list(BLOCKS.values())}")
    bias = f"{BACKBONE}layers.{{}}.blocks.0.attn.relative_position_bias_table"
    tables = [ours[bias.format(stage)] for stage in stages]
    fields = {
        "width": len(ours[f"{BACKBONE}patch_embed.proj.weight"]),
        "blocks": [_count(ours, rf"{BACKBONE}layers\.{stage}\.blocks\.(\d+)\..+") for stage in stages],
        "heads": [table.shape[1] for table in tables],
        "window": (round(len(tables[0]) ** 0.5) + 1) // 2,
    }
    return SwinConfig.model_validate(fields)


def _count(ours: Mapping[str, Tensor], pattern: str) -> int:
    """How many different values the group of `pattern` has in the names."""
    return len({match[1] for name in ours if (match := re.fullmatch(pattern, name))})
