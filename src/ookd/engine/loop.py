"""The training loop: loader -> task -> named losses -> optimiser, stopped at any step and continued exactly.

It runs on Accelerate, so the same code serves a laptop and many GPUs. It knows no model family: a task turns
a batch into named terms and says how much each weighs.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from ookd.config import Recipe
from ookd.engine import chance, checkpoint, is_main, trackers
from ookd.engine.blocks import freeze_norms, recompute, share_out
from ookd.engine.build import make_model, make_optimizer, make_task, open_loader, rate
from ookd.engine.record import Record
from ookd.errors import UserError
from ookd.models import zoo
from ookd.process import stop_signals
from ookd.stopwatch import seconds, timed
from ookd.structures import Batch


@dataclass(slots=True)
class Interruption:
    """Remembers the first SIGINT or SIGTERM, so that the loop stops between two steps."""

    signal: int | None = None
    _before: dict[int, Any] = field(default_factory=dict)

    def __enter__(self) -> Interruption:
        for number in stop_signals():
            self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, _: object) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt  # asked twice: at once
        self.signal = number


class Trainer:
    """One training run. `fit` returns how many steps are done."""

    def __init__(self, recipe: Recipe, out: Path, record: Record, cpu: bool = False) -> None:
        run = recipe.run
        if run.threads:
            torch.set_num_threads(run.threads)
        self.recipe, self.out, self.record = recipe, out, record
        AcceleratorState._reset_state()  # a process may run several recipes, each with its own precision
        precision = "no" if run.precision == "fp32" else run.precision
        self.accelerator = Accelerator(
            mixed_precision=precision,
            gradient_accumulation_steps=run.accumulate,
            cpu=cpu,
            log_with=trackers.named(run.trackers),
            project_dir=out,
        )
        if run.precision == "fp16" and self.accelerator.device.type == "cpu":
            raise UserError("run.precision: fp16 needs a GPU; use bf16 or fp32 on a CPU")
        trackers.start(self.accelerator, recipe)
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        chance.begin(run.seed, rank)
        self.loader, self.names = open_loader(recipe, rank, world)
        self.model = make_model(recipe.model, len(self.names))
        task: Any = make_task(self.model, recipe, self.names)
        self.weights: dict[str, float] = dict(task.weights)
        if run.channels_last:
            task.to(memory_format=torch.channels_last)
        if run.frozen_norms:
            freeze_norms(task)
        if run.recompute:
            recompute(self.model)
        self._shared = run.shard and world > 1
        if self._shared:
            share_out(task, self.accelerator.device.type, world)
        self.optimizer = make_optimizer(task, recipe)
        self._names = {id(p): name for name, p in task.named_parameters()}
        own = {id(value) for value in self.model.state_dict(keep_vars=True).values()}
        # what the task has beside the model
        self._beside = [k for k, v in task.state_dict(keep_vars=True).items() if id(v) not in own]
        # where weights are shared out, the processes are already joined
        self.task = self.accelerator.prepare_model(task, evaluation_mode=self._shared)
        self._prepared = self.accelerator.prepare_optimizer(self.optimizer)
        if run.compile:
            self.task = torch.compile(self.task)
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        self._factor = rate(recipe.optim, run.steps)
        self.average = {k: v.detach().clone() for k, v in self.model.state_dict().items()} if run.ema else {}
        self.step = 0
        self.stop = Interruption()
        self._skipped = 0

    def fit(self, between: Callable[[], None] = lambda: None) -> int:
        """Run until the recipe's last step or an interruption; a checkpoint is written in both cases.

        Every process calls `between` after each step but the last.
        """
        run = self.recipe.run
        self.task.train()
        if run.frozen_norms:
            freeze_norms(self.task)
        with self.stop as stop:
            batches = iter(self.loader)
            while self.step < run.steps and not self.asked_to_stop():
                began = time.perf_counter()
                seconds.clear()
                terms, norm, frames = self._advance(batches)
                self.step += 1
                if is_main():
                    spent = {**seconds, "all": time.perf_counter() - began}
                    line = self.record.step(
                        self.step, terms, self._factor(self.step - 1), norm, frames, spent
                    )
                    if line:
                        self.accelerator.log(line, self.step)
                if self.step % run.save_every == 0 and self.step < run.steps:
                    self.save()
                if self.step < run.steps:
                    between()
            self.save()
        if stop.signal is not None and self.step < run.steps:
            raise Interrupted(stop.signal, self.step)
        return self.step

    def asked_to_stop(self) -> bool:
        """Whether any process was: all must stop at the same step, or one would wait for another for ever."""
        if self.accelerator.num_processes == 1:
            return self.stop.signal is not None
        mine = torch.tensor([self.stop.signal or 0], device=self.accelerator.device)
        told = int(self.accelerator.gather(mine).max())
        if told and self.stop.signal is None:  # one that came meanwhile is heard the next time
            self.stop.signal = told
        return told > 0

    def _advance(self, batches: Any) -> tuple[dict[str, float], float, int]:
        """One optimiser step: named losses, gradient norm, frames seen."""
        factor = self._factor(self.step)
        for group, lr in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = lr * factor
        sums: dict[str, float] = {}
        norm, frames = 0.0, 0
        for _ in range(self.recipe.run.accumulate):
            with timed("loader"):
                batch: Batch = next(batches).to(self.accelerator.device)
            frames += batch.frames.shape[0] * batch.frames.shape[1] * self.accelerator.num_processes
            with self.accelerator.accumulate(self.task), timed("model"):
                terms = self.task(batch)
                total = torch.stack(
                    [self.weights[k] * v for k, v in terms.items() if k in self.weights]
                ).sum()
                if not self._finite(total):
                    self._skip(batch, terms)
                    break
                self.accelerator.backward(total)
                if self.accelerator.sync_gradients:
                    clip = self.recipe.optim.clip
                    length = self.accelerator.clip_grad_norm_(self.task.parameters(), clip)
                    norm = float(checkpoint.full(length))
                self._prepared.step()
                self._prepared.zero_grad()
            for name, value in {**terms, "total": total}.items():
                mean = self.accelerator.reduce(value.detach().float(), "mean").item()
                sums[name] = sums.get(name, 0.0) + mean / self.recipe.run.accumulate
        else:
            self._skipped = 0
            self._follow()
        return sums, norm, frames

    def _finite(self, total: Tensor) -> bool:
        """Whether the loss is finite on every rank."""
        bad = (~torch.isfinite(total.detach())).float()
        return float(self.accelerator.reduce(bad, "sum")) == 0

    def _skip(self, batch: Batch, terms: dict[str, Tensor]) -> None:
        """Leave the batch out, keep it for inspection, and give up when it goes on."""
        self._prepared.zero_grad()
        self._skipped += 1
        named = {k: float(v.detach()) for k, v in terms.items()}
        path = self.record.keep_batch(self.step, batch, named)
        if self._skipped >= self.recipe.run.patience:
            raise UserError(
                f"the loss was not finite {self._skipped} steps in a row, the last at step {self.step}: "
                f"{named}; look at {path}, lower optim.lr or optim.clip, or use run.precision=fp32"
            )

    def _follow(self) -> None:
        """Move the averaged weights towards the trained ones."""
        if not self.average:
            return
        decay = min(self.recipe.run.ema, (self.step + 1) / (self.step + 10))
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value.detach(), 1 - decay)
            else:
                self.average[name].copy_(value)

    def save(self) -> None:
        """Write a checkpoint; every rank waits until it is there."""
        tensors = {
            "model": self.model.state_dict(),
            "optimizer": checkpoint.optimizer_tensors(self.optimizer, self._names),
        }
        if self._beside:
            state = self.accelerator.unwrap_model(self.task).state_dict()
            tensors["beside"] = {name: state[name] for name in self._beside}
        if self.average:
            tensors["average"] = self.average
        tensors = {name: checkpoint.whole(part, keep=is_main()) for name, part in tensors.items()}
        tensors["random"], python = chance.state()
        if is_main():
            scaler = self.accelerator.scaler
            facts = {
                "python": python,
                "loader": self.loader.state_dict(),
                "scaler": scaler.state_dict() if scaler is not None else None,
                "skipped": self._skipped,
            }
            checkpoint.save(
                self.out / "checkpoints",
                checkpoint.Checkpoint(self.step, tensors, facts),
                self.recipe.run.keep,
            )
        self.accelerator.wait_for_everyone()

    def resume(self) -> bool:
        """Continue from the newest whole checkpoint, if there is one."""
        found, warnings = checkpoint.newest(self.out / "checkpoints")
        for warning in warnings:
            self.record.warn(warning)
        self.record.rewind(found.step if found else 0)
        if found is None:
            return False
        self.step = found.step
        task = self.accelerator.unwrap_model(self.task)
        own = self.model.state_dict()
        self.model.load_state_dict(checkpoint.like(found.tensors["model"], own))
        beside = checkpoint.like(found.tensors.get("beside", {}), task.state_dict())
        task.load_state_dict(beside, strict=False)
        checkpoint.restore_optimizer(self.optimizer, self._names, found.tensors["optimizer"])
        self.average = checkpoint.like(found.tensors.get("average", {}), own)
        chance.restore(found.tensors["random"], found.facts["python"], self.accelerator.process_index)
        self.loader.load_state_dict(found.facts["loader"])
        if found.facts["scaler"] is not None and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(found.facts["scaler"])
        self._skipped = found.facts["skipped"]
        return True

    def trained(self) -> nn.Module:
        """A copy of the model with the weights to use: the averaged ones where the recipe keeps them."""
        config: Any = self.model.config
        model = zoo.build(config).to(self.accelerator.device)
        model.load_state_dict(checkpoint.whole(self.average or self.model.state_dict()))
        return model.eval()


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop; it can be resumed."""

    def __init__(self, number: int, step: int) -> None:
        name = signal.Signals(number).name
        super().__init__(f"stopped by {name} after step {step}; continue with --resume")
        self.number = number
