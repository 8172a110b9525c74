"""The small reference models: their configurations, and their weights through the converter."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ookd.models.backbones.resnet import ResNetConfig
from ookd.models.idol.model import Idol, IdolConfig
from ookd.models.preprocess import IMAGENET
from ookd.models.seqformer.model import SeqFormer, SeqFormerConfig
from ookd.models.upstream import from_upstream


def _fields(golden: Path, family: str) -> dict[str, object]:
    numbers = json.loads((golden / f"{family}_config.json").read_text())["cfg_overrides"]
    return {
        "backbone": ResNetConfig(width=numbers["WIDTH_PER_GROUP"]),
        "classes": numbers["NUM_CLASSES"],
        "queries": numbers["NUM_OBJECT_QUERIES"],
        "encoder_layers": numbers["ENC_LAYERS"],
        "decoder_layers": numbers["DEC_LAYERS"],
        "ffn": numbers["DIM_FEEDFORWARD"],
        "dropout": numbers["DROPOUT"],
    }


def idol(golden: Path) -> Idol:
    model = Idol(IdolConfig.model_validate(_fields(golden, "idol")))
    model.load_state_dict(from_upstream(load_file(golden / "idol_state_dict.safetensors")))
    return model.eval()


def seqformer(golden: Path) -> SeqFormer:
    model = SeqFormer(SeqFormerConfig.model_validate(_fields(golden, "seqformer")))
    model.load_state_dict(from_upstream(load_file(golden / "seqformer_state_dict.safetensors")))
    return model.eval()


def prepare(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Raw frames [F, 3, h, w] of 0..255 -> normalised, padded frames and their pad masks."""
    frames, pad = IMAGENET.pad(raw)
    return IMAGENET.normalise(frames, pad), pad


def record(stages: Mapping[str, Iterable[nn.Module]]) -> dict[str, list[Any]]:
    """What the modules of each stage answer from now on, call by call."""
    seen: dict[str, list[Any]] = {name: [] for name in stages}
    for name, modules in stages.items():
        for module in modules:
            module.register_forward_hook(lambda _module, _inputs, output, to=seen[name]: to.append(output))
    return seen


def assert_stage(actual: Tensor, expected: Tensor) -> None:
    """Inner values, which are not of order 1: how convolutions sum depends on the number of threads."""
    assert_close(actual, expected, 2e-5 * float(expected.abs().max()))


def assert_close(actual: Tensor, expected: Tensor, atol: float = 2e-5) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)
