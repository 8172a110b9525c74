"""The compiled deformable attention gives the results of PyTorch's."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from deploy.exported import idol_graphs, open_graphs
from ookd.deploy.convert import write_graphs
from ookd.deploy.deformable_attention import CORES, _threads, deformable_attention
from ookd.errors import UserError
from ookd.models.parts.deformable import DeformableAttention
from ookd.models.parts.level_sampling import by_grid

SHAPES = ((5, 7), (3, 4), (1, 1))
QUERIES = 11


def sampled(
    value: Tensor, offsets: Tensor, weights: Tensor, reference: Tensor, shapes: tuple[tuple[int, int], ...]
) -> Tensor:
    out = np.full((*offsets.shape[:2], value.shape[2] * value.shape[3]), np.nan, np.float32)
    arrays = (array.numpy() for array in (value, offsets, weights, reference))
    deformable_attention(*arrays, np.array(shapes), out)
    return torch.from_numpy(out)


def inputs(heads: int, dim: int, points: int, numbers: int, spread: float) -> list[Tensor]:
    torch.manual_seed(0)
    samples = len(SHAPES) * points
    return [
        torch.randn(1, sum(h * w for h, w in SHAPES), heads, dim),
        spread * torch.randn(1, QUERIES, heads * samples * 2),
        torch.rand(1, QUERIES, heads, samples),
        torch.rand(1, QUERIES, len(SHAPES), numbers),
    ]


@pytest.mark.parametrize("numbers", [2, 4], ids=["from points", "from boxes"])
@pytest.mark.parametrize("spread", [0.3, 5.0], ids=["inside", "also far outside"])
@pytest.mark.parametrize(("heads", "dim", "points"), [(8, 32, 4), (3, 8, 2), (1, 5, 1)])
def test_it_equals_grid_sampling(heads: int, dim: int, points: int, spread: float, numbers: int) -> None:
    value, offsets, weights, reference = inputs(heads, dim, points, numbers, spread)
    attention = DeformableAttention(heads * dim, heads, len(SHAPES), points)
    locations = attention.locations(offsets, reference, SHAPES)
    expected = by_grid(value, SHAPES, locations, weights.unflatten(-1, (len(SHAPES), points)))
    actual = sampled(value, offsets, weights, reference, SHAPES)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)


def test_a_point_exactly_on_a_cell_or_on_the_border_samples_that_cell() -> None:
    value = torch.arange(1.0, 7.0).view(1, 6, 1, 1)  # 2 x 3 cells
    reference = torch.tensor([[0.5 / 3, 0.25], [2.5 / 3, 0.75], [0.0, 0.25], [1.0, 1.0]]).view(1, 4, 1, 2)
    answer = sampled(value, torch.zeros(1, 4, 2), torch.ones(1, 4, 1, 1), reference, ((2, 3),))
    assert answer.flatten().tolist() == pytest.approx([1.0, 6.0, 0.5, 1.5])


def test_nan_reads_nothing_outside_and_changes_no_other_query() -> None:
    value, offsets, weights, reference = inputs(2, 8, 4, 2, 1.0)
    expected = sampled(value, offsets, weights, reference, SHAPES)
    offsets[0, 3], reference[0, 4], offsets[0, 5] = torch.nan, torch.nan, torch.inf
    others = [*range(3), *range(6, QUERIES)]
    assert torch.equal(sampled(value, offsets, weights, reference, SHAPES)[0, others], expected[0, others])


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no threads")
def test_its_threads_run_on_every_core_even_if_the_calling_thread_is_bound() -> None:
    _threads.cache_clear()
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert _threads().submit(os.sched_getaffinity, 0).result() == CORES
    finally:
        os.sched_setaffinity(0, before)


def test_a_model_that_needs_numba_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_graphs(idol_graphs(), tmp_path, "openvino", "fp32", [])
    monkeypatch.delitem(sys.modules, "ookd.deploy.deformable_attention")
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(UserError, match=r"frame.xml: needs numba: pip install 'ookd\[openvino\]'"):
        open_graphs(tmp_path, "openvino")
