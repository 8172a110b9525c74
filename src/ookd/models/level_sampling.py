"""Weighted bilinear samples from several feature maps: the inner loop of deformable attention."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Shapes = Sequence[tuple[int, int]]  # L x (h, w); maps lie one after another, row by row
BAG = (
    "ookd::Bag"  # table [R, D], rows int32 [N, K], shares [N, K] -> sums of the rows by their shares, [N, D]
)


def sample_levels(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """What every query sees: [B, Q, M*D].

    value [B, S, M, D], locations [B, Q, M, L, P, 2] (x, y in 0..1 of a map, zeros outside), weights
    [B, Q, M, L, P]. On CPUs by table look-up, which is several times faster; in an export as bags; otherwise,
    and wherever else the model is traced, by grid sampling, which every device has.
    """
    if torch.onnx.is_in_onnx_export():
        return by_bags(value, shapes, locations, weights)
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
        seen = F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        seen = (seen * weight).sum(-1)  # [B*M, D, Q]
        result = seen if result is None else result + seen
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
    far_x, far_y = (place - corner).unbind(-1)  # [B, Q, M, L, P]; they keep what is not a number
    x, y = corner.to(torch.int32).clamp(min=-1).unbind(-1)  # rows must exist even then

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
    seen = F.embedding_bag(
        rows.view(bags, -1), table, per_sample_weights=shares.view(bags, -1), mode="sum"
    )  # [B*Q*M, D]
    return seen.view(batch, queries, heads * dim)


def by_bags(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """`by_table` as runtimes compute it fastest; in ONNX export only.

    A head's cells lie together, so that its part of the table fits a cache; points are the innermost axis of
    all arithmetic, so that it becomes few loops.
    """
    batch, _, heads, dim = value.shape
    queries, points = locations.shape[1], locations.shape[4]
    maps = torch.split(value.transpose(1, 2), [h * w for h, w in shapes], 2)  # L x [B, M, h*w, D]
    bordered = [
        F.pad(x.unflatten(2, shape), (0, 0, 1, 2, 1, 2)).flatten(2, 3)
        for x, shape in zip(maps, shapes, strict=True)
    ]
    table = torch.cat(bordered, 2)  # [B, M, cells, D]

    def each(numbers: list[int]) -> Tensor:
        """One number a level -> [L*P]"""
        return torch.tensor(numbers, dtype=torch.float32).repeat_interleave(points)

    x, y = locations.permute(5, 0, 2, 1, 3, 4).flatten(-2).unbind(0)  # [B, M, Q, L*P]
    width, height = (each([shape[axis] for shape in shapes]) for axis in (1, 0))
    x = torch.minimum((x * width - 0.5).clamp(min=-1), width)  # in cells
    y = torch.minimum((y * height - 0.5).clamp(min=-1), height)
    column, row = x.floor(), y.floor()
    far_x, far_y = (x - column).unsqueeze(-2), (y - row).unsqueeze(-2)

    cells = [x.shape[2] for x in bordered]
    below = width + 3
    origin = each([sum(cells[:level]) + w + 3 + 1 for level, (_, w) in enumerate(shapes)])
    head = torch.arange(batch * heads).view(batch, heads, 1, 1) * sum(cells)
    # whole numbers where they grow large, for float32 counts to 2^24 only
    first = (row * below + column).to(torch.int32) + (origin + head).to(torch.int32)  # upper left
    right, down = torch.tensor([[[0.0], [1], [0], [1]], [[0.0], [0], [1], [1]]])  # [4, 1] corners
    rows = first.unsqueeze(-2) + (right + down * below).to(torch.int32)  # [B, M, Q, 4, L*P]

    across = 1 - right + (2 * right - 1) * far_x
    along = 1 - down + (2 * down - 1) * far_y
    shares = weights.transpose(1, 2).flatten(-2).unsqueeze(-2) * across * along
    bags = batch * heads * queries
    seen: Tensor = torch.onnx.ops.symbolic(
        BAG,
        (table.reshape(-1, dim), rows.reshape(bags, -1), shares.reshape(bags, -1)),
        dtype=table.dtype,
        shape=(bags, dim),
        version=1,
    )
    return seen.view(batch, heads, queries, dim).transpose(1, 2).flatten(2)
