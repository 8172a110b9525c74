"""What a process has left to chance, so that a resumed run goes on with the same numbers on every process.

Clips depend on none of this: they have seeds of their own.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor


def begin(seed: int, rank: int) -> None:
    random.seed(seed + rank)
    np.random.seed(seed + rank)  # noqa: NPY002 - third-party code draws from it
    torch.manual_seed(seed + rank)


def state() -> tuple[dict[str, Tensor], list[Any]]:
    """All processes' generators: torch's as "RANK.device", Python's by rank. Every process must call it."""
    mine = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        mine["cuda"] = torch.cuda.get_rng_state()
    every = gather_object([(mine, random.getstate())])
    tensors = {f"{rank}.{kind}": value for rank, (own, _) in enumerate(every) for kind, value in own.items()}
    return tensors, [python for _, python in every]


def restore(tensors: dict[str, Tensor], python: list[Any], rank: int) -> None:
    """A process that the saved run did not have keeps what it has."""
    if f"{rank}.cpu" not in tensors:
        return
    torch.set_rng_state(tensors[f"{rank}.cpu"])
    if torch.cuda.is_available() and f"{rank}.cuda" in tensors:
        torch.cuda.set_rng_state(tensors[f"{rank}.cuda"])
    version, numbers, rest = python[rank]
    random.setstate((version, tuple(numbers), rest))
