"""Checkpoints that survive a kill at any moment.

A checkpoint is a folder: tensors as safetensors, everything else as JSON, and a manifest of checksums. It is
written under another name and renamed, so under its own name it is complete. The manifest reveals later
damage; the newest undamaged checkpoint is used. Nothing is pickled. Sharded tensors are gathered first, so a
run may continue with another number of processes, sharded or not.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import pydantic
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from ookd import limits
from ookd.config.model_folder import FileName, checked
from ookd.errors import UserError
from ookd.files import checksum, flush_to_disk
from ookd.untrusted import check_file, read_json

_MANIFEST, _FACTS = "manifest.json", "facts.json"
_TENSORS = ("model", "optimizer", "random")  # files that every checkpoint has


class _Sums(pydantic.RootModel[dict[FileName, str]]):
    """The manifest: every file with its SHA-256."""

    @pydantic.model_validator(mode="after")
    def _whole(self) -> Self:
        for name in (_FACTS, *(f"{name}.safetensors" for name in _TENSORS)):
            if name not in self.root:
                raise ValueError(f"{name} is not listed")
        return self


class _LoaderState(pydantic.BaseModel):
    seed: int
    epoch: int
    position: int
    epoch_length: int
    data: str = ""  # earlier versions do not say


class Facts(pydantic.BaseModel):
    """What a checkpoint holds besides tensors."""

    step: Annotated[int, pydantic.Field(strict=True, ge=0)]
    python: list[tuple[int, list[int], float | None]]  # states of Python's generator, by process
    loader: _LoaderState
    scaler: dict[str, Any] | None
    skipped: Annotated[int, pydantic.Field(strict=True, ge=0)]
    optimizer: str | None = None  # the class that made its state; earlier versions do not say


@dataclass(slots=True)
class Checkpoint:
    step: int
    tensors: dict[str, dict[str, Tensor]]  # a file each: model, optimizer, ...
    facts: dict[str, Any]  # JSON


def save(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write `folder/step-N` and delete all but the `keep` newest."""
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{checkpoint.step:08d}"
    part = folder / f".{final.name}.{os.getpid()}"
    for left in folder.glob(".step-*"):  # by a killed run
        shutil.rmtree(left, ignore_errors=True)
    try:
        part.mkdir()
        for name, tensors in checkpoint.tensors.items():
            save_file(
                {k: v.detach().cpu().contiguous() for k, v in tensors.items()}, part / f"{name}.safetensors"
            )
        facts = {"step": checkpoint.step, **checkpoint.facts}
        (part / _FACTS).write_text(json.dumps(facts))
        sums = {path.name: checksum(path) for path in sorted(part.iterdir())}
        (part / _MANIFEST).write_text(json.dumps(sums, indent=1))
        for path in part.iterdir():
            flush_to_disk(path)
        if final.exists():
            shutil.rmtree(final)
        part.rename(final)
        flush_to_disk(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(part, ignore_errors=True)
        raise UserError(
            f"cannot write checkpoint {final}: {error}; earlier checkpoints are untouched"
        ) from None
    for old in _finished(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest undamaged checkpoint, and a warning for every damaged one."""
    warnings: list[str] = []
    for path in reversed(_finished(folder)):
        try:
            return read(path), warnings
        except UserError as error:
            warnings.append(str(error))
    return None, warnings


def read(path: Path) -> Checkpoint:
    """Read a checkpoint and verify its checksums."""
    try:
        sums = checked(read_json(path / _MANIFEST), _Sums, path / _MANIFEST).root
        for name, expected in sums.items():
            check_file(path / name, limits.WEIGHTS)
            if checksum(path / name) != expected:
                raise UserError(f"{name} does not match its checksum")
        facts = checked(read_json(path / _FACTS), Facts, path / _FACTS).model_dump()
        tensors = {Path(name).stem: load_file(path / name) for name in sums if name.endswith(".safetensors")}
    except (OSError, ValueError, SafetensorError, UserError) as error:
        raise UserError(f"checkpoint {path} is damaged: {error}") from None
    return Checkpoint(facts.pop("step"), tensors, facts)


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: dict[int, str]) -> dict[str, Tensor]:
    """The optimiser's state by parameter name; `names` maps id(parameter) to it."""
    return {
        f"{names[id(parameter)]}|{key}": value
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, names: dict[int, str], tensors: dict[str, Tensor]
) -> None:
    parameters = {names[id(p)]: p for group in optimizer.param_groups for p in group["params"]}
    optimizer.state.clear()
    for key, value in tensors.items():
        name, _, kind = key.rpartition("|")
        parameter = parameters[name]
        # the optimiser keeps scalars (the step count) on the CPU
        optimizer.state[parameter][kind] = _shard_one(value, parameter) if value.dim() else value


def unsharded(value: Tensor) -> Tensor:
    """The whole tensor. Every process must call it."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def gather(tensors: Mapping[str, Tensor], keep: bool = True) -> dict[str, Tensor]:
    """Whole tensors on the CPU. Every process must call it, even one that does not `keep` them."""
    found = {}
    for name, value in tensors.items():
        value = unsharded(value)
        if keep:
            found[name] = value.cpu()
    return found


def shard_like(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Move whole tensors to the devices of those with the same name, and shard them in the same way."""
    return {name: _shard_one(value, own.get(name, value)) for name, value in tensors.items()}


def _shard_one(value: Tensor, own: Tensor) -> Tensor:
    value = value.to(own.device)
    if isinstance(own, DTensor):
        return distribute_tensor(value, own.device_mesh, own.placements, src_data_rank=None)
    return value


def _finished(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))
