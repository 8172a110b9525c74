"""Weighted bilinear samples from several feature maps: the inner loop of deformable attention."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Shapes = Sequence[tuple[int, int]]  # L x (h, w); maps lie one after another, row by row


def sample_levels(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """The weighted samples of every query: [B, Q, M*D].

    value [B, S, M, D], locations [B, Q, M, L, P, 2] (x, y in 0..1 of a map, zeros outside), weights
    [B, Q, M, L, P]. On CPUs by table look-up, which is several times faster. Elsewhere, and wherever the
    model is traced, by grid sampling, which every device and runtime has.
    """
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    way = by_table if value.device.type == "cpu" and not traced else by_grid
    return way(value, shapes, locations, weights)


def by_grid(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    maps = torch.split(value, [h * w for h, w in shapes], 1)
    result = None
    for level, (image, (h, w)) in enumerate(zip(maps, shapes, strict=True)):
        image = image.permute(0, 2, 3, 1).flatten(0, 1).unflatten(-1, (h, w))  # [B*M, D, h, w]
        grid = locations[:, :, :, level].transpose(1, 2).flatten(0, 1) * 2 - 1  # [B*M, Q, P, 2]
        weight = weights[:, :, :, level].transpose(1, 2).flatten(0, 1).unsqueeze(1)  # [B*M, 1, Q, P]
        found = F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        found = (found * weight).sum(-1)  # [B*M, D, Q]
        result = found if result is None else result + found
    assert result is not None
    return result.unflatten(0, value.shape[:1] + value.shape[2:3]).flatten(1, 2).transpose(1, 2)


def by_table(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """Each sample is a weighted sum of four cells: four rows of a table of all cells and heads.

    Maps get a border of zeros, one cell before and two after, so that samples outside need no special case.
    """
    batch, _, heads, dim = value.shape
    device, queries = value.device, locations.shape[1]
    maps = torch.split(value.flatten(2), [h * w for h, w in shapes], 1)  # L x [B, h*w, M*D]
    bordered = [
        F.pad(x.unflatten(1, shape), (0, 0, 1, 2, 1, 2)).flatten(1, 2)
        for x, shape in zip(maps, shapes, strict=True)
    ]
    table = torch.cat(bordered, 1).view(-1, dim)  # rows: B, cells of all levels, M

    size = torch.tensor([(w, h) for h, w in shapes], device=device, dtype=locations.dtype).unsqueeze(1)
    place = (locations * size - 0.5).clamp(min=-1).minimum(size)  # in cells
    corner = place.floor()
    far_x, far_y = (place - corner).unbind(-1)  # [B, Q, M, L, P]; NaN stays NaN
    x, y = corner.to(torch.int32).clamp(min=-1).unbind(-1)  # rows must exist even for NaN

    def level_numbers(numbers: list[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int32, device=device).unsqueeze(1)  # [L, 1]

    cells = [x.shape[1] for x in bordered]
    right, below = heads, level_numbers([(w + 3) * heads for _, w in shapes])
    origin = level_numbers([(sum(cells[:level]) + w + 3 + 1) * heads for level, (_, w) in enumerate(shapes)])
    head = torch.arange(heads, dtype=torch.int32, device=device).view(-1, 1, 1)
    image = torch.arange(batch, dtype=torch.int32, device=device).view(-1, 1, 1, 1, 1)
    start = origin + head + image * (sum(cells) * heads)  # [B, 1, M, L, 1]
    first = y * below + x * heads + start  # [B, Q, M, L, P] upper left
    rows = torch.cat([first, first + right, first + below, first + (below + right)], -1)

    lower = far_y * weights
    upper = weights - lower
    upper_right, lower_right = upper * far_x, lower * far_x
    shares = torch.cat([upper - upper_right, upper_right, lower - lower_right, lower_right], -1)
    bags = batch * queries * heads
    found = F.embedding_bag(
        rows.view(bags, -1), table, per_sample_weights=shares.view(bags, -1), mode="sum"
    )  # [B*Q*M, D]
    return found.view(batch, queries, heads * dim)
