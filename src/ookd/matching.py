"""Which query answers for which instance."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


class Match(NamedTuple):
    """Queries and the instances they answer for, one row a pair, ascending in query."""

    query: Tensor  # [M] int64
    instance: Tensor  # [M] int64


def hungarian(cost: Tensor) -> Match:
    """One query for each instance at the least total cost: [Q, N] -> min(Q, N) pairs.

    A cost that is not a number counts as the worst, so that a diverging run is reported by its loss.
    """
    table = np.nan_to_num(cost.detach().float().cpu().numpy(), nan=1e9, posinf=1e9, neginf=-1e9)
    rows, columns = linear_sum_assignment(table)
    return Match(
        torch.as_tensor(rows, dtype=torch.int64, device=cost.device),
        torch.as_tensor(columns, dtype=torch.int64, device=cost.device),
    )
