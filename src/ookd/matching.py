"""Matching of queries to instances.

Hungarian matching gives each instance one query, at the least total cost. Dynamic k, from OTA and YOLOX,
gives it several, and more of them the better its boxes already are. That trains more queries at once. Only
one of them can represent the instance later, so it also returns the best query of each.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ookd.boxes import giou, iou, to_xyxy
from ookd.stopwatch import timed

CENTRE_RADIUS = 2.5 / 32  # of the image on each axis: closer to an instance's centre counts as near


class Match(NamedTuple):
    """Matched queries and instances, one row a pair, ascending in query."""

    query: Tensor  # [M] int64
    instance: Tensor  # [M] int64


@timed("matcher")
def hungarian(cost: Tensor) -> Match:
    """One query for each instance at the least total cost: [Q, N] -> min(Q, N) pairs.

    NaN counts as the highest cost, so that a diverging run is reported by its loss.
    """
    table = np.nan_to_num(cost.detach().float().cpu().numpy(), nan=1e9, posinf=1e9, neginf=-1e9)
    rows, columns = linear_sum_assignment(table)
    return Match(
        torch.as_tensor(rows, dtype=torch.int64, device=cost.device),
        torch.as_tensor(columns, dtype=torch.int64, device=cost.device),
    )


def hungarian_rows(cost: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """`hungarian` row by row: cost [B, Q, N], valid [B, N] -> the query of each instance, and whether it has
    one, both [B, N].

    It has none, and the query is 0, where it is not valid or there are too few queries.
    """
    query, found = torch.zeros(valid.shape, dtype=torch.long), torch.zeros(valid.shape, dtype=torch.bool)
    for row, there in enumerate(valid.cpu()):
        instances = there.nonzero()[:, 0]
        matched = hungarian(cost[row][:, instances])
        instance = instances[matched.instance.cpu()]
        query[row, instance], found[row, instance] = matched.query.cpu(), True
    return query.to(cost.device), found.to(cost.device)


@torch.no_grad()
def mask_cost(logits: Tensor, truth: Tensor) -> Tensor:
    """What a query's mask or tube costs as that of an instance, by soft overlap and cross-entropy.

    Logits [B, Q, S] and truth [B, N, S] in 0..1, over S cells -> [B, Q, N].
    """
    p = logits.sigmoid()
    shared = p @ truth.transpose(1, 2)
    overlap = (2 * shared + 1) / (p.sum(2, keepdim=True) + truth.sum(2).unsqueeze(1) + 1)
    entropy = F.softplus(logits).mean(2, keepdim=True) - logits @ truth.transpose(1, 2) / logits.shape[2]
    return 5 * (1 - overlap) + 5 * entropy


def focal_cost(logits: Tensor, labels: Tensor) -> Tensor:
    """The change of the focal loss if a query took a class: logits [Q, K], labels [N] -> [Q, N]."""
    p = logits.float().sigmoid()[:, labels]
    claimed = 0.25 * (1 - p) ** 2 * -(p + 1e-8).log()
    background = 0.75 * p**2 * -(1 - p + 1e-8).log()
    return claimed - background


@timed("matcher")
@torch.no_grad()
def match_tubes(logits: Tensor, boxes: Tensor, labels: Tensor, targets: Tensor) -> Match:
    """One query for each track of a clip: logits [Q, K], boxes [T, Q, 4], labels [N], target boxes [N, T, 4].

    The box cost is the Euclidean distance over all 4T numbers; only the overlap cost clips its targets.
    """
    tubes, targets = boxes.transpose(0, 1).float(), targets.float()  # [Q, T, 4], [N, T, 4]
    distance = torch.cdist(tubes.flatten(1), targets.flatten(1))
    overlap = giou(to_xyxy(tubes)[:, None], to_xyxy(targets.clamp(1e-7, 1))).mean(-1)
    return hungarian(5 * distance + 2 * focal_cost(logits, labels) - 2 * overlap)


@timed("matcher")
@torch.no_grad()
def match_frame(logits: Tensor, boxes: Tensor, labels: Tensor, targets: Tensor) -> tuple[Match, Tensor]:
    """Several queries for each instance of a frame, and the best query of each: Match, [N].

    Logits [Q, K], boxes [Q, 4], labels [N], target boxes [N, 4]. Two instances may end up with the
    same query. Then it is matched to the first only, as in the released IDOL.
    """
    matched, cost = _dynamic_k(*_frame_cost(logits, boxes, labels, targets), top=10)
    first = matched & (matched.cumsum(1) == 1)
    query, instance = first.nonzero().unbind(1)
    best = cost.masked_fill(~matched & matched.any(0), torch.inf).argmin(0)
    return Match(query, instance), best


@timed("matcher")
@torch.no_grad()
def contrast_sets(logits: Tensor, boxes: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Queries that show each instance, and queries that clearly do not: bool [N, Q] each.

    All others are too similar to be pushed away. The second, wider matching starts from the costs that the
    first one has changed, as in the released IDOL.
    """
    cost, overlap = _frame_cost(logits, boxes, labels, targets)
    positive, cost = _dynamic_k(cost, overlap, top=10)
    similar, _ = _dynamic_k(cost, overlap, top=100)
    return positive.T, ~similar.T


def _frame_cost(logits: Tensor, boxes: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Cost and IoU of every query and instance [Q, N]; there is no distance term."""
    boxes, targets = boxes.float(), targets.float()
    corners, target_corners = to_xyxy(boxes)[:, None], to_xyxy(targets)
    centre = boxes[:, None, :2]
    inside = ((centre > target_corners[:, :2]) & (centre < target_corners[:, 2:])).all(-1)
    near = ((centre > targets[:, :2] - CENTRE_RADIUS) & (centre < targets[:, :2] + CENTRE_RADIUS)).all(-1)
    candidate = (inside | near).any(1, keepdim=True)
    cost = focal_cost(logits, labels) - 3 * giou(corners, target_corners)
    return cost + 100 * ~(inside & near) + 10000 * ~candidate, iou(corners, target_corners)


def _dynamic_k(cost: Tensor, overlap: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Queries of each instance, bool [Q, N], and the cost with the penalties of taken queries.

    An instance takes as many of its cheapest queries as its `top` best overlaps sum to, but at least one. A
    query that several take goes to its cheapest instance. Instances left without one then take a free one.
    """
    queries, instances = cost.shape
    if instances == 0:
        return torch.zeros_like(cost, dtype=torch.bool), cost
    wanted = overlap.topk(min(top, queries), dim=0).values.sum(0).int().clamp(min=1)  # [N]
    rank = torch.arange(queries, device=cost.device)[:, None].expand_as(cost)
    cheapest = cost.argsort(dim=0, stable=True)
    matched = torch.zeros_like(cost, dtype=torch.bool).scatter(0, cheapest, rank < wanted)
    contested = matched.sum(1, keepdim=True) > 1
    matched = torch.where(contested, _one_hot(cost.argmin(1, keepdim=True), 1, cost), matched)

    left = instances  # without a query; once a round gains nothing, no later one does
    while 0 < (orphans := int((~matched.any(0)).sum())) < left:
        left = orphans
        cost = cost + 100000 * matched.any(1, keepdim=True)
        matched = matched | (_one_hot(cost.argmin(0, keepdim=True), 0, cost) & ~matched.any(0))
        # The released IDOL settles the contests of the first round again, not those of this round.
        settle = contested & (matched.sum(1) > 1).any()
        matched = torch.where(settle, _one_hot(cost.argmin(1, keepdim=True), 1, cost), matched)
    return matched, cost


def _one_hot(index: Tensor, dim: int, like: Tensor) -> Tensor:
    return torch.zeros_like(like, dtype=torch.bool).scatter(dim, index, True)
