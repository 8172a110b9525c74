"""Which modules of a model count as its layers, and what recomputing them saves."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor, nn

from ookd.engine.layers import freeze_norms, layers_of, recompute
from ookd.models import zoo
from ookd.models.families import preset


def kept_bytes(model: nn.Module, x: Tensor) -> tuple[int, Tensor]:
    """What autograd holds on to in a forward pass, and the gradient that comes out."""
    sizes = {}

    def keep(tensor: Tensor) -> Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    x = x.clone().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = model(x)
    y.square().sum().backward()
    assert x.grad is not None
    return sum(sizes.values()), x.grad


def test_recomputed_layers_keep_less_and_give_the_same_gradient() -> None:
    torch.manual_seed(0)
    layers = [nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True) for _ in range(4)]
    model = nn.Sequential(*layers)
    x = torch.randn(2, 50, 32)
    torch.manual_seed(1)
    everything, expected = kept_bytes(model, x)
    recompute(model)
    torch.manual_seed(1)
    little, gradient = kept_bytes(model, x)
    assert torch.equal(gradient, expected)
    assert little < everything / 4


def test_layers_are_found_and_hold_most_of_the_weights() -> None:
    with torch.device("meta"):
        model = zoo.build(preset("idol-swin-l"))
    found = list(layers_of(model))
    assert Counter(type(block).__name__ for block in found) == {
        "Block": 24,
        "EncoderLayer": 6,
        "DecoderLayer": 6,
        "Mlp": 6,
    }
    inside = [p for block in found for p in block.parameters()]
    assert len({id(p) for p in inside}) == len(inside)
    assert sum(p.numel() for p in inside) > 0.9 * sum(p.numel() for p in model.parameters())


def test_frozen_norms_keep_their_statistics() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    freeze_norms(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained == ["0.weight", "0.bias"]
