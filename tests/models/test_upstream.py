"""Every weight of the published files has its place in ours, and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ookd import UserError
from ookd.models.backbones.resnet import ResNet, ResNetConfig
from ookd.models.families import preset
from ookd.models.upstream import from_upstream, to_upstream
from ookd.models.zoo import build

FULL = {"idol_r50": "idol-r50", "idol_swinl": "idol-swin-l", "seqformer_r50": "seqformer-r50"}


def full_size(golden: Path, name: str) -> dict[str, Tensor]:
    keys = json.loads((golden / f"{name}_full_keys.json").read_text())
    return {
        key: torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
        for key, (shape, dtype, _) in keys.items()
    }


@pytest.mark.parametrize("name", FULL)
def test_full_size_names_convert_with_nothing_left_over(golden: Path, name: str) -> None:
    theirs = full_size(golden, name)
    with torch.device("meta"):
        model = build(preset(FULL[name]))
    ours = model.state_dict()
    converted = from_upstream(theirs)
    assert {k: v.shape for k, v in converted.items()} == {k: v.shape for k, v in ours.items()}
    back = to_upstream(ours)
    assert {k: (v.shape, v.dtype) for k, v in back.items()} == {
        k: (v.shape, v.dtype) for k, v in theirs.items()
    }


@pytest.mark.parametrize("name", FULL)
def test_the_same_parameters_are_trained(golden: Path, name: str) -> None:
    kinds = json.loads((golden / f"{name}_full_keys.json").read_text())
    with torch.device("meta"):
        model = build(preset(FULL[name]))
    trained = {k: torch.empty(0) for k, p in model.named_parameters() if p.requires_grad}
    theirs = from_upstream({k: torch.empty(0) for k, (_, _, kind) in kinds.items() if kind == "param"})
    assert set(trained) == set(theirs)


@pytest.mark.parametrize("family", ["idol", "seqformer"])
def test_values_survive_both_ways(golden: Path, family: str) -> None:
    theirs = load_file(golden / f"{family}_state_dict.safetensors")
    ours = from_upstream(theirs)
    back = to_upstream(ours)
    unused = {name for name in theirs if "encoder" in name and "output_proj_box" in name}
    for name in theirs.keys() - unused:
        assert torch.equal(back[name], theirs[name]), name
    for name, tensor in from_upstream(back).items():
        assert torch.equal(tensor, ours[name])
    box = "detr.detr.bbox_embed.0.layers.0.weight"
    assert torch.equal(back[box.replace("detr.detr.", "detr.detr.transformer.decoder.")], back[box])


def torchvision_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A detectron2 ResNet's weights as torchvision calls them."""
    renamed = {}
    for name, tensor in state.items():
        name = name.removeprefix("stem.")
        for stage in (2, 3, 4, 5):
            name = name.replace(f"res{stage}.", f"layer{stage - 1}.")
        name = name.replace("shortcut.norm", "downsample.1").replace("shortcut", "downsample.0")
        for i in (1, 2, 3):
            name = name.replace(f"conv{i}.norm", f"bn{i}")
        renamed[name] = tensor
    return renamed


def resnet_state() -> dict[str, Tensor]:
    """A detectron2 ResNet-50 of width 1, every weight different."""
    model = ResNet(ResNetConfig(width=1))
    state = {f"pixels.backbone.{k}": torch.rand_like(v) for k, v in model.state_dict().items()}
    prefix = "detr.detr.backbone.0.backbone."
    return {name.removeprefix(prefix): tensor for name, tensor in to_upstream(state).items()}


def test_resnet_files_of_detectron2_and_torchvision_agree() -> None:
    state = resnet_state()
    expected = from_upstream(state)
    ResNet(ResNetConfig(width=1)).load_state_dict(
        {name.removeprefix("pixels.backbone."): tensor for name, tensor in expected.items()}
    )
    extra = {"fc.weight": torch.ones(1), "fc.bias": torch.ones(1), "bn1.num_batches_tracked": torch.ones(())}
    for same in (
        torchvision_names(state) | extra,
        {f"backbone.bottom_up.{name}": tensor for name, tensor in state.items()},
    ):
        converted = from_upstream(same)
        assert converted.keys() == expected.keys()
        assert all(torch.equal(converted[name], expected[name]) for name in expected)


def test_original_seqformer_layout(golden: Path) -> None:
    vnext = load_file(golden / "seqformer_state_dict.safetensors")
    backbone = "detr.detr.backbone.0.backbone."
    body = torchvision_names(
        {name.removeprefix(backbone): tensor for name, tensor in vnext.items() if name.startswith(backbone)}
    )
    original = {f"detr.backbone.0.body.{name}": tensor for name, tensor in body.items()} | {
        name.removeprefix("detr."): tensor for name, tensor in vnext.items() if not name.startswith(backbone)
    }
    expected, actual = from_upstream(vnext), from_upstream(original)
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


def test_every_odd_name_is_listed(golden: Path) -> None:
    theirs = load_file(golden / "idol_state_dict.safetensors")
    theirs |= {"detr.detr.magic.weight": torch.ones(1), "detr.detr.transformer.spell": torch.ones(1)}
    with pytest.raises(UserError, match=r"2 of \d+ .*: detr.detr.magic.weight, detr.detr.transformer.spell$"):
        from_upstream(theirs)
    with pytest.raises(UserError, match="begin with head, trunk"):
        from_upstream({"trunk.weight": torch.ones(1), "head.weight": torch.ones(1)})
