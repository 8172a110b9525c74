"""Backbones give maps of strides 8, 16 and 32; those of transformers are configured, loaded and rebuilt."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoBackbone, AutoConfig

from ookd import UserError
from ookd.models import zoo
from ookd.models.backbones.build import LiteConfig, Pretrained, TransformersConfig, build
from ookd.models.backbones.efficientnet_lite import EfficientNetLite
from ookd.models.backbones.resnet import ResNetConfig
from ookd.models.backbones.swin import SwinConfig
from ookd.models.idol.model import Idol, IdolConfig
from ookd.models.preprocess import IMAGENET

SMALL = {"queries": 3, "dim": 64, "encoder_layers": 1, "decoder_layers": 1, "ffn": 8}
VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56}
THEIRS: dict[str, dict[str, Any]] = {
    "convnext": {"model_type": "convnext", "hidden_sizes": [4, 8, 12, 16], "depths": [1, 1, 1, 1]},
    "dinov2, patches of 14": {"model_type": "dinov2", "patch_size": 14, **VIT},
    "dinov3, patches of 16": {"model_type": "dinov3_vit", "patch_size": 16, "intermediate_size": 32, **VIT},
}
CONFIGS = {
    "resnet": ResNetConfig(width=2),
    "resnet-101": ResNetConfig(width=2, depth=101),
    "swin": SwinConfig(width=8, blocks=(1, 1, 1, 1), heads=(1, 1, 2, 2), window=4),
    **{name: TransformersConfig(config=config) for name, config in THEIRS.items()},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_strides_and_channels(name: str) -> None:
    size = (32, 96)
    backbone = build(CONFIGS[name]).eval()
    with torch.no_grad():
        maps = backbone(torch.randn(2, 3, *size))
    expected = [
        (2, channels, size[0] // stride, size[1] // stride)
        for channels, stride in zip(backbone.channels, (8, 16, 32), strict=True)
    ]
    assert [tuple(x.shape) for x in maps] == expected


@pytest.mark.parametrize("name", THEIRS)
def test_a_model_with_it_is_saved_and_rebuilt_without_the_hub(name: str, tmp_path: Path) -> None:
    model = Idol(IdolConfig(backbone=CONFIGS[name], classes=1, **SMALL)).eval()
    zoo.save_pretrained(model, tmp_path, ["cat"])
    frames, pad = IMAGENET.pad(torch.randn(1, 3, 40, 60))
    with torch.no_grad():
        expected, _ = model(frames, pad)
        actual, _ = zoo.load(tmp_path).model(frames, pad)
    assert torch.equal(actual.logits, expected.logits)


def test_pretrained_weights_come_from_a_source(tmp_path: Path) -> None:
    source, saved = tmp_path / "theirs", tmp_path / "ours"
    fields = dict(THEIRS["convnext"]) | {"out_indices": [-3, -2, -1]}
    trained = AutoBackbone.from_config(AutoConfig.for_model(fields.pop("model_type"), **fields)).eval()
    trained.save_pretrained(source)
    config = IdolConfig(backbone=TransformersConfig(source=str(source)), classes=1, **SMALL)
    model = Idol(config).eval()
    model.load_pretrained()
    frames = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected, maps = trained(frames).feature_maps, model.pixels.backbone(frames)
    assert all(torch.equal(one, other) for one, other in zip(maps, expected, strict=True))
    zoo.save_pretrained(model, saved, ["cat"])
    (source / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot load its weights"):
        model.load_pretrained()
    shutil.rmtree(source)
    assert zoo.load(saved).model.config == model.config


def test_unknown_backbones_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="backbone: transformers cannot build it"):
        build(TransformersConfig(config={"model_type": "resnext-9000"}))
    with pytest.raises(UserError, match="neither a folder with a transformers model nor a hub id") as raised:
        build(TransformersConfig(source=str(tmp_path / "nothing")))
    assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match="give source"):
        TransformersConfig()


def test_frozen_stages_of_a_resnet() -> None:
    for stages, learns in ((0, "stem"), (1, "stages.res2"), (2, "stages.res3"), (5, "")):
        backbone = build(ResNetConfig(width=2, frozen_stages=stages))
        trained = [name for name, p in backbone.named_parameters() if p.requires_grad]
        assert trained[0].startswith(learns) if trained else not learns


def test_lite_gives_the_last_three_maps_of_its_trunk_and_knows_its_weights() -> None:
    trunk = EfficientNetLite("lite0")
    trunk.load_imagenet()
    backbone = build(LiteConfig())
    assert isinstance(backbone, Pretrained)
    backbone.load_pretrained()
    frames = torch.randn(1, 3, 64, 96)
    maps = backbone(frames)
    assert [tuple(x.shape[1:]) for x in maps] == [(40, 8, 12), (112, 4, 6), (320, 2, 3)]
    assert backbone.channels == [40, 112, 320]
    assert all(torch.equal(x, y) for x, y in zip(maps, trunk(frames)[2:], strict=True))
