"""The state of random generators, so that a resumed run draws the same numbers in every process.

Clips do not depend on it: they have seeds of their own.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor


def seed_everything(seed: int, rank: int) -> None:
    random.seed(seed + rank)
    np.random.seed(seed + rank)  # noqa: NPY002 - third-party code draws from it
    torch.manual_seed(seed + rank)


def state() -> tuple[dict[str, Tensor], list[Any]]:
    """Generators of all processes: torch's as "RANK.device", Python's by rank. Every process must call it."""
    mine = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        mine["cuda"] = torch.cuda.get_rng_state()
    every = gather_object([(mine, random.getstate())])
    tensors = {f"{rank}.{kind}": value for rank, (own, _) in enumerate(every) for kind, value in own.items()}
    return tensors, [python for _, python in every]


def restore(tensors: dict[str, Tensor], python: list[Any], rank: int) -> None:
    """Continue where the saved run stopped. A process that the saved run did not have keeps its own state."""
    if f"{rank}.cpu" not in tensors:
        return
    torch.set_rng_state(tensors[f"{rank}.cpu"])
    if torch.cuda.is_available() and f"{rank}.cuda" in tensors:
        torch.cuda.set_rng_state(tensors[f"{rank}.cuda"])
    version, numbers, rest = python[rank]
    random.setstate((version, tuple(numbers), rest))


@contextmanager
def undisturbed() -> Iterator[None]:
    """Whatever is drawn within, the numbers drawn afterwards stay the same."""
    python, numbers, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)  # noqa: NPY002
        torch.set_rng_state(torch_state)
        if gpus:
            torch.cuda.set_rng_state_all(gpus)
