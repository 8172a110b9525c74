"""Models away from the CPU: nothing in them names a device, and a GPU gives what the CPU gives.

The parity tests need a GPU (CUDA or MPS) and skip without one: pytest -m accelerator
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.test_idol_training import random_batch
from models.test_shapes import idol, near, prepared, seqformer
from ookd.models.backbones.build import LiteConfig
from ookd.models.compact.model import Compact, peak_places
from ookd.models.compact.training import CompactTraining
from ookd.models.families import preset
from ookd.models.idol.model import Idol, IdolConfig
from ookd.models.idol.training import IdolTraining
from ookd.models.seqformer.model import SeqFormer
from ookd.models.seqformer.training import SeqFormerTraining
from ookd.models.zoo import build

SELECT = torch.tensor([[0, 4, 2]])


def nano() -> nn.Module:
    torch.manual_seed(0)
    model: Any = build(preset("nano", classes=3)).eval()
    model.load_pretrained()
    return model


def nano_clip() -> nn.Module:
    return build(preset("nano-clip", classes=3)).eval()


def placed() -> nn.Module:
    config = IdolConfig(
        backbone=LiteConfig(),
        classes=3,
        queries=5,
        dim=64,
        encoder_layers=1,
        decoder_layers=2,
        ffn=16,
        start="peaks",
    )
    return Idol(config).eval()


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "nano": (nano, (1,)),
    "idol": (idol, (1,)),
    "seqformer": (seqformer, (1, 2)),
    "nano-clip": (nano_clip, (1, 2)),
    "idol with placed queries": (placed, (1,)),
}
TASKS = {Compact: CompactTraining, Idol: IdolTraining, SeqFormer: SeqFormerTraining}


@pytest.mark.parametrize("name", MODELS)
def test_every_tensor_follows_the_input(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the device without data, which operations do not let mix with the CPU, and which has no autocast."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    make, shape = MODELS[name]
    frames, pad = prepared(*shape, 3, 64, 96)
    answer = make().to("meta")(frames.to("meta"), pad.to("meta"))
    answer = answer[0] if isinstance(answer, tuple) else answer
    masks = answer.masks(SELECT.to("meta"))
    assert masks.shape[:2] == (1, 3)
    assert {x.device.type for x in (answer.logits, answer.features, masks)} == {"meta"}


@pytest.fixture
def device() -> Iterator[torch.device]:
    """The GPU, its matrix products in full float32."""
    cuda = torch.cuda.is_available()
    if not cuda and not torch.backends.mps.is_available():
        pytest.skip("no CUDA or MPS device here")
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield torch.device("cuda" if cuda else "mps")
    torch.backends.cudnn.allow_tf32 = before


def answers(model: nn.Module, frames: Tensor, pad: Tensor, places: Tensor) -> list[Tensor]:
    """Logits, boxes where there are any, and masks; a compact model's queries stand at given places, because
    rounding may change which peaks of its heat-map are the best."""
    with torch.no_grad():
        if isinstance(model, Compact):
            answer: Any = model.decode(model.encoder(frames, pad), places)[-1]
        else:
            answer = model(frames, pad)
        answer = answer[0] if isinstance(answer, tuple) else answer
        found = [answer.logits, answer.masks(SELECT.to(frames.device))]
    return [x.float().cpu() for x in (*found, answer.boxes) if x is not None]


@pytest.mark.accelerator
@pytest.mark.parametrize("name", ["nano", "idol", "seqformer"])
@pytest.mark.parametrize(("dtype", "share"), [(torch.float32, 1e-3), (torch.bfloat16, 0.05)], ids=str)
def test_a_gpu_gives_what_the_cpu_gives(
    name: str, dtype: torch.dtype, share: float, device: torch.device
) -> None:
    """Within a share of the largest value, in the GPU's float32 and under its autocast to bfloat16."""
    make, shape = MODELS[name]
    model, (frames, pad) = make(), prepared(*shape, 3, 90, 120)
    places = torch.full((1, 5, 2), 0.5)
    if isinstance(model, Compact):
        with torch.no_grad():
            places = peak_places(model.encoder(frames, pad), 5)
    expected = answers(model, frames, pad, places)
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        actual = answers(model.to(device), frames.to(device), pad.to(device), places.to(device))
    for found, wanted in zip(actual, expected, strict=True):
        assert near(found, wanted, share)


@pytest.mark.accelerator
@pytest.mark.parametrize("name", ["nano", "idol", "seqformer"])
def test_a_training_step_on_a_gpu_is_that_of_the_cpu(name: str, device: torch.device) -> None:
    """Losses within 1 per cent, the gradient's length within 5: a near tie in matching may fall otherwise."""
    torch.manual_seed(3)
    batch = random_batch((3, 2))
    batch.seeds = [1, 2]
    steps = []
    model = MODELS[name][0]()
    for place in (torch.device("cpu"), device):
        random.seed(0)
        task = TASKS[type(model)](copy.deepcopy(model).to(place))
        terms = task(batch.to(place))
        terms = {key: term for key, term in terms.items() if key in task.weights}
        torch.stack([task.weights[key] * term for key, term in terms.items()]).sum().backward()
        grads = [p.grad.float().norm().cpu() for p in task.parameters() if p.grad is not None]
        steps.append(({key: term.item() for key, term in terms.items()}, torch.stack(grads).norm().item()))
    (expected, length), (actual, other) = steps
    assert actual == pytest.approx(expected, rel=1e-2, abs=1e-3)
    assert other == pytest.approx(length, rel=5e-2)
