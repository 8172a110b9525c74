"""The optimiser: what an orthogonal step is, which matrices take it, and that all else is AdamW."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ookd import config
from ookd.engine.build import make_model, make_optimizer, make_task
from ookd.engine.muon import STEP_SIZE, Muon, orthogonal
from ookd.errors import UserError


def matrix(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def muon(parameters: list[nn.Parameter], **more: Any) -> Muon:
    groups = [{"params": parameters, "orthogonal": True, **more}]
    return Muon(groups, 0.01, torch.float32, weight_decay=0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(48, 96), (96, 48), (64, 64)])
def test_all_singular_values_become_about_one(shape: tuple[int, int], dtype: torch.dtype) -> None:
    u, _, v = torch.linalg.svd(matrix(*shape), full_matrices=False)
    x = u @ torch.diag(torch.linspace(2e-5, 1e-3, min(shape))) @ v
    turned = orthogonal(x.unsqueeze(0).to(dtype))[0].float()
    values = torch.linalg.svdvals(turned)
    assert 0.5 < values.min() < values.max() < 1.3
    assert torch.nn.functional.cosine_similarity((u @ v).flatten(), turned.flatten(), 0) > 0.97


def test_a_matrix_without_gradient_is_not_divided_by_nothing() -> None:
    assert torch.equal(orthogonal(torch.zeros(1, 32, 40)), torch.zeros(1, 32, 40))


def test_a_step_is_as_long_as_one_of_adamw() -> None:
    weight = nn.Parameter(matrix(64, 128))
    before = weight.detach().clone()
    weight.grad = matrix(64, 128, seed=1) * 1e4
    muon([weight]).step()
    step = before - weight.detach()
    assert step.pow(2).mean().sqrt().item() == pytest.approx(0.01 * STEP_SIZE, rel=0.15)
    assert (step * matrix(64, 128, seed=1)).sum() > 0  # downhill
    assert weight.grad is None


def test_weights_decay_apart_from_the_step() -> None:
    weights = [nn.Parameter(matrix(32, 32)) for _ in range(2)]
    for weight, decay in zip(weights, (0.0, 0.5), strict=True):
        weight.grad = matrix(32, 32, seed=1)
        muon([weight], weight_decay=decay).step()
    assert torch.allclose(weights[0] - weights[1], 0.01 * 0.5 * matrix(32, 32), atol=1e-6)


def test_equal_shapes_together_are_as_each_alone_and_kernels_are_matrices() -> None:
    shapes = [(40, 32, 3, 3), (40, 288), (40, 288)]
    together, alone = ([nn.Parameter(matrix(*s, seed=i)) for i, s in enumerate(shapes)] for _ in range(2))
    one, many = muon(together), [muon([weight]) for weight in alone]
    for step in range(3):
        for side in (together, alone):
            for index, weight in enumerate(side):
                weight.grad = matrix(*shapes[index], seed=10 + 3 * step + index)
        one.step()
        for optimizer in many:
            optimizer.step()
    for a, b in zip(together, alone, strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_other_groups_step_as_adamw_to_the_bit() -> None:
    weights = [nn.Parameter(matrix(32, 32)) for _ in range(2)]
    turned = {"params": [nn.Parameter(matrix(32, 32))], "orthogonal": True}
    mixed = Muon([{"params": [weights[0]]}, turned], 0.01, torch.float32)
    plain = torch.optim.AdamW([weights[1]], lr=0.01)
    for step in range(3):
        for weight in [weights[0], weights[1], mixed.param_groups[1]["params"][0]]:
            weight.grad = matrix(32, 32, seed=step)
        mixed.step()
        plain.step()
    assert torch.equal(*weights)


def test_hidden_matrices_of_nano_are_chosen_and_nothing_else() -> None:
    recipe = config.load("nano-ytvis-like", ["optim.kind=muon", "model.pretrained=false"])
    model = make_model(recipe.model, 14)
    names = {id(p): name for name, p in model.named_parameters()}
    turned = {
        names[id(p)]
        for group in make_optimizer(make_task(model, recipe, []), recipe).param_groups
        for p in group["params"]
        if group["orthogonal"]
    }
    assert {"layers.0.look.query.weight", "encoder.refine8.conv.weight", "start.weight"} <= turned
    for name in ("heads.classify.weight", "heads.shape.weight", "encoder.level", "encoder.heat.1.weight"):
        assert name not in turned
    assert not any("trunk" in name or name.endswith("bias") or "norm" in name for name in turned)


def test_shared_out_matrices_are_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"use adamw with run\.shard"):
        config.load("nano-ytvis-like", ["optim.kind=muon", "run.shard=true", "run.channels_last=false"])
