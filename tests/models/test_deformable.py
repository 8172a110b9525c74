"""Deformable attention against the reference numbers, and against sampling by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from conftest import golden_cases
from models.published import assert_close
from ookd.models.parts.deformable import DeformableAttention, Levels
from ookd.models.parts.level_sampling import by_grid, by_table, sample_levels

Way = Callable[..., Tensor]
WAYS = pytest.mark.parametrize("way", [by_grid, by_table], ids=lambda way: way.__name__)


@pytest.mark.parametrize("case", golden_cases("msda_core_*.safetensors"), ids=lambda case: case.stem)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])
@WAYS
def test_sampling_and_its_gradients_match_the_reference(case: Path, dtype: torch.dtype, way: Way) -> None:
    g = load_file(case)
    bits = "fp32" if dtype == torch.float32 else "fp64"
    names = ("value", "sampling_locations", "attention_weights")
    value, locations, weights = inputs = [g[name].to(dtype).requires_grad_() for name in names]
    shapes = [(int(h), int(w)) for h, w in g["spatial_shapes"]]
    output = way(value, shapes, locations, weights)
    output.backward(g["grad_output"].to(dtype))
    tolerance = 2e-5 if dtype == torch.float32 else 1e-12
    assert_close(output, g[f"output_{bits}"], tolerance)
    for name, tensor in zip(names, inputs, strict=True):
        expected = g[f"grad_{name}_{bits}"]
        assert_close(tensor.grad, expected, tolerance * max(1.0, float(expected.abs().max())))


@pytest.mark.parametrize("reference", ["ref2", "ref4"], ids=["points", "boxes"])
def test_module_matches_the_reference(golden: Path, reference: str) -> None:
    g = load_file(golden / "msda_module.safetensors")
    module = DeformableAttention(dim=32, heads=4, levels=3, points=2)
    names = {
        "sampling_offsets": "offsets",
        "attention_weights": "weights",
        "value_proj": "values",
        "output_proj": "output",
    }
    state = {key.split(".", 1)[1]: tensor for key, tensor in g.items() if key.startswith("param.")}
    module.load_state_dict({f"{names[k.split('.')[0]]}.{k.split('.')[1]}": v for k, v in state.items()})
    shapes = tuple((int(h), int(w)) for h, w in g["spatial_shapes"])
    levels = Levels(shapes, pad=g["padding_mask"], valid=torch.ones(2, 3, 2))
    with torch.no_grad():
        output = module(g["query"], g[reference], g["src"], levels)
        locations = module.locations(module.offsets(g["query"]), g[reference], shapes)
    assert_close(locations, g[f"{reference}_sampling_locations"])
    assert_close(output, g[f"{reference}_output"])


@WAYS
def test_a_query_at_a_cell_centre_reads_that_cell(way: Way) -> None:
    value = torch.arange(6.0).view(1, 6, 1, 1)  # one 2 x 3 map
    centres = torch.tensor([[(j + 0.5) / 3, (i + 0.5) / 2] for i in range(2) for j in range(3)])
    locations = centres.view(1, 6, 1, 1, 1, 2)
    read = way(value, [(2, 3)], locations, torch.ones(1, 6, 1, 1, 1))
    assert_close(read.flatten(), torch.arange(6.0))


@WAYS
def test_outside_the_map_there_is_nothing(way: Way) -> None:
    places = [[-0.5, 0.5], [0.5, 1.5], [1e30, 0.5], [0.5, -1e30], [-0.5, -0.5], [1.5, 1.5]]
    locations = torch.tensor(places).view(1, 6, 1, 1, 1, 2)
    read = way(torch.ones(1, 1, 1, 4), [(1, 1)], locations, torch.ones(1, 6, 1, 1, 1))
    assert not read.any()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=3), st.integers(0, 999))
def test_both_ways_agree(shapes: list[tuple[int, int]], seed: int) -> None:
    """Inside, at and far over the edges."""
    torch.manual_seed(seed)
    levels, cells = len(shapes), sum(h * w for h, w in shapes)
    value, weights = torch.randn(2, cells, 3, 4), torch.randn(2, 6, 3, levels, 2)
    locations = torch.randn(2, 6, 3, levels, 2, 2) * 2
    expected = by_grid(value, shapes, locations, weights)
    assert_close(by_table(value, shapes, locations, weights), expected, 1e-5)


@WAYS
def test_what_is_not_a_number_stays_visible(way: Way) -> None:
    """A run that diverges must end in a clear message about its loss, not in a crash here."""
    locations = torch.tensor([[math.nan, 0.5], [0.5, 0.5]]).view(1, 2, 1, 1, 1, 2)
    read = way(torch.ones(1, 1, 1, 4), [(1, 1)], locations, torch.ones(1, 2, 1, 1, 1))
    assert way is by_grid or read[0, 0].isnan().all()
    assert read[0, 1].isfinite().all()


def test_a_traced_model_samples_by_grid() -> None:
    """What is exported must not hold the look-up, which few runtimes have."""

    class Sampling(torch.nn.Module):
        def forward(self, value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
            return sample_levels(value, [(2, 3)], locations, weights)

    inputs = (torch.randn(1, 6, 1, 4), torch.rand(1, 5, 1, 1, 2, 2), torch.rand(1, 5, 1, 1, 2))
    exported = str(torch.export.export(Sampling(), inputs).graph)
    traced = str(torch.jit.trace(Sampling(), inputs, check_trace=False).graph)
    for graph in (exported, traced):
        assert "grid_sampler" in graph
        assert "embedding_bag" not in graph


def test_padded_tokens_are_never_seen() -> None:
    torch.manual_seed(0)
    module = DeformableAttention(dim=32, heads=4, levels=1, points=2)
    pad = torch.zeros(1, 4, 4, dtype=torch.bool)
    pad[:, :, 2:] = True
    levels = Levels(((4, 4),), pad.flatten(1), torch.tensor([[[0.5, 1.0]]]))
    query, tokens = torch.randn(1, 5, 32), torch.randn(1, 16, 32)
    reference = levels.spread(torch.rand(1, 5, 2))
    changed = torch.where(levels.pad.unsqueeze(-1), torch.randn(1, 16, 32), tokens)
    assert_close(module(query, reference, tokens, levels), module(query, reference, changed, levels), 0)


def test_heads_start_in_compass_directions() -> None:
    module = DeformableAttention(dim=32, heads=4, levels=1, points=2)
    start = module.offsets.bias.view(4, 1, 2, 2)
    east, south, west, north = ([1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0])
    assert_close(start[:, 0, 0], torch.tensor([east, south, west, north]), 1e-6)
    assert_close(start[:, 0, 1], 2 * start[:, 0, 0], 1e-6)


def test_a_traced_model_samples_by_grid_which_every_runtime_knows() -> None:
    shapes = ((3, 4), (2, 2))
    inputs = (torch.rand(1, 16, 2, 8), torch.rand(1, 5, 2, 2, 3, 2), torch.rand(1, 5, 2, 2, 3))

    class Sampling(torch.nn.Module):
        def forward(self, value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
            return sample_levels(value, shapes, locations, weights)

    operations = str(torch.export.export(Sampling(), inputs).graph)
    assert "grid_sample" in operations
    assert "embedding_bag" not in operations
