"""The training loop: loader, task, named losses, optimiser. It can stop at any step and continue exactly.

It runs on Accelerate, so the same code serves a laptop and many GPUs. It does not depend on a model family: a
task turns a batch into named loss terms and gives each a weight.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor

from ookd.clips.opening import open_loader
from ookd.config import Recipe
from ookd.engine import checkpoint, metric_trackers, randomness
from ookd.engine.build import family_of_base, make_model, make_optimizer, make_task, rate
from ookd.engine.launcher import is_main, process_count
from ookd.engine.layers import freeze_norms, recompute, shard
from ookd.engine.run_log import RunLog
from ookd.errors import UserError
from ookd.models import zoo
from ookd.models.protocols import Network
from ookd.process import stop_signals
from ookd.stopwatch import Stopwatch, timed
from ookd.structures import Batch


@dataclass(slots=True)
class Interruption:
    """Remembers the first signal to stop, so that the loop ends between two steps."""

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
            raise KeyboardInterrupt  # asked twice: stop at once
        self.signal = number


class Trainer:
    """One training run. `fit` returns how many steps are done."""

    def __init__(self, recipe: Recipe, out: Path, log: RunLog, cpu: bool = False) -> None:
        self.recipe, self.out, self.log = recipe, out, log
        self.step = 0
        self.stop = Interruption()
        self.exact_times = False  # wait for the GPU at every part of a step that is timed
        self._skipped = 0  # steps in a row
        run = recipe.run
        if run.threads:
            torch.set_num_threads(run.threads)
        self.accelerator = _accelerator(recipe, out, cpu)
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        sharded = run.shard and world > 1

        randomness.seed_everything(run.seed, rank)
        multiple = family_of_base(recipe.model).preprocessing.multiple
        self.loader, self.names = open_loader(recipe, rank, world, multiple)
        self.model = make_model(recipe.model, len(self.names))
        task = make_task(self.model, recipe, self.names)
        self.weights: dict[str, float] = dict(task.weights)
        if run.channels_last:
            task.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if run.frozen_norms:
            freeze_norms(task)
        if run.recompute:
            recompute(self.model)
        if sharded:
            shard(task, self.accelerator.device.type, world)

        self.optimizer = make_optimizer(task, recipe)
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        self._factor = rate(recipe.optim, run.steps)
        self._parameter_names = {id(p): name for name, p in task.named_parameters()}
        of_model = {id(value) for value in self.model.state_dict(keep_vars=True).values()}
        self._outside_model = [k for k, v in task.state_dict(keep_vars=True).items() if id(v) not in of_model]
        self.average = {k: v.detach().clone() for k, v in self.model.state_dict().items()} if run.ema else {}

        # sharding has already joined the processes
        self.task = self.accelerator.prepare_model(task, evaluation_mode=sharded)
        self._prepared_optimizer = self.accelerator.prepare_optimizer(self.optimizer)
        if run.compile:
            self.task = torch.compile(self.task)

    def fit(self, after_step: Callable[[], None] = lambda: None) -> int:
        """Run until the last step of the recipe or an interruption. Both write a checkpoint.

        Every process calls `after_step` after each step but the last.
        """
        run = self.recipe.run
        self.task.train()
        if run.frozen_norms:
            freeze_norms(self.task)
        with self.stop as stop:
            batches = iter(self.loader)
            while self.step < run.steps and not self.asked_to_stop():
                with Stopwatch(synchronise=self.exact_times) as watch:
                    terms, norm, frames = self._optimise(batches)
                self.step += 1
                if is_main():
                    spent = {**watch.seconds, "all": watch.total}
                    metrics = self.log.step(
                        self.step, terms, self._factor(self.step - 1), norm, frames, spent
                    )
                    if metrics:
                        self.accelerator.log(metrics, self.step)
                if self.step % run.save_every == 0 and self.step < run.steps:
                    self.save()
                if self.step < run.steps:
                    after_step()
            self.save()
        if stop.signal is not None and self.step < run.steps:
            raise Interrupted(stop.signal, self.step)
        return self.step

    def asked_to_stop(self) -> bool:
        """Whether any process was. All must stop at the same step, or one would wait for another for ever."""
        if self.accelerator.num_processes == 1:
            return self.stop.signal is not None
        mine = torch.tensor([self.stop.signal or 0], device=self.accelerator.device)
        received = int(self.accelerator.gather(mine).max())
        if received and self.stop.signal is None:  # a signal that comes after this counts at the next call
            self.stop.signal = received
        return received > 0

    def _optimise(self, batches: Iterator[Batch]) -> tuple[dict[str, float], float, int]:
        """One optimiser step: named losses, gradient norm, number of frames."""
        factor = self._factor(self.step)
        for group, lr in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = lr * factor
        sums: dict[str, float] = {}
        norm, frames = 0.0, 0
        for _ in range(self.recipe.run.accumulate):
            with timed("loader"):
                batch = next(batches).to(self.accelerator.device)
            frames += batch.frames.shape[0] * batch.frames.shape[1] * self.accelerator.num_processes
            with self.accelerator.accumulate(self.task), timed("model"):
                terms = self.task(batch)
                weighted = [
                    self.weights[name] * value for name, value in terms.items() if name in self.weights
                ]
                total = torch.stack(weighted).sum()
                if not self._finite(total):
                    self._skip(batch, terms)
                    break
                self.accelerator.backward(total)
                if self.accelerator.sync_gradients:
                    clip = self.recipe.optim.clip
                    length = self.accelerator.clip_grad_norm_(self.task.parameters(), clip)
                    norm = float(checkpoint.unsharded(length))
                self._prepared_optimizer.step()
                self._prepared_optimizer.zero_grad()
            for name, value in {**terms, "total": total}.items():
                mean = self.accelerator.reduce(value.detach().float(), "mean").item()
                sums[name] = sums.get(name, 0.0) + mean / self.recipe.run.accumulate
        else:
            self._skipped = 0
            self._update_average()
        return sums, norm, frames

    def _finite(self, total: Tensor) -> bool:
        """Whether the loss is finite in every process."""
        bad = (~torch.isfinite(total.detach())).float()
        return float(self.accelerator.reduce(bad, "sum")) == 0

    def _skip(self, batch: Batch, terms: dict[str, Tensor]) -> None:
        """Skip a batch and save it for inspection. Too many in a row end the run."""
        self._prepared_optimizer.zero_grad()
        self._skipped += 1
        values = {k: float(v.detach()) for k, v in terms.items()}
        path = self.log.save_batch(self.step, batch, values)
        if self._skipped >= self.recipe.run.patience:
            raise UserError(
                f"the loss was not finite {self._skipped} steps in a row, the last at step {self.step}: "
                f"{values}; look at {path}, lower optim.lr or optim.clip, or use run.precision=fp32"
            )

    def _update_average(self) -> None:
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
        """Write a checkpoint. Every process waits until it is complete."""
        tensors = {
            "model": self.model.state_dict(),
            "optimizer": checkpoint.optimizer_tensors(self.optimizer, self._parameter_names),
        }
        if self._outside_model:
            state = self.accelerator.unwrap_model(self.task).state_dict()
            tensors["beside"] = {name: state[name] for name in self._outside_model}
        if self.average:
            tensors["average"] = self.average
        tensors = {name: checkpoint.gather(part, keep=is_main()) for name, part in tensors.items()}
        tensors["random"], python = randomness.state()
        if is_main():
            scaler = self.accelerator.scaler
            facts = {
                "python": python,
                "loader": self.loader.state_dict(),
                "scaler": scaler.state_dict() if scaler is not None else None,
                "skipped": self._skipped,
                "optimizer": type(self.optimizer).__name__,
            }
            checkpoint.save(
                self.out / "checkpoints",
                checkpoint.Checkpoint(self.step, tensors, facts),
                self.recipe.run.keep,
            )
        self.accelerator.wait_for_everyone()

    def resume(self) -> bool:
        """Continue from the newest undamaged checkpoint, if there is one."""
        found, warnings = checkpoint.newest(self.out / "checkpoints")
        if found is None and warnings:
            raise UserError(
                f"{self.out / 'checkpoints'}: none of the {len(warnings)} checkpoints is whole, the last: "
                f"{warnings[0]}; copy one there, or begin anew with --overwrite"
            )
        for warning in warnings:
            self.log.warn(f"{warning}; using the one before it")
        if found is None:
            self.log.rewind(0)
            return False
        try:
            self._restore(found)
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            what = " ".join(str(error).split())
            raise UserError(
                f"checkpoint {found.step} of {self.out} does not fit this recipe: {what:.300}"
            ) from None
        self.log.rewind(found.step)
        return True

    def _restore(self, found: checkpoint.Checkpoint) -> None:
        """Go on from a checkpoint."""
        self.step = found.step
        if (made_by := found.facts["optimizer"]) not in (None, type(self.optimizer).__name__):
            raise ValueError(f"it was made by {made_by}, not {type(self.optimizer).__name__} (optim.kind)")
        task = self.accelerator.unwrap_model(self.task)
        own = self.model.state_dict()
        self.model.load_state_dict(checkpoint.shard_like(found.tensors["model"], own))
        outside = checkpoint.shard_like(found.tensors.get("beside", {}), task.state_dict())
        task.load_state_dict(outside, strict=False)
        checkpoint.restore_optimizer(self.optimizer, self._parameter_names, found.tensors["optimizer"])
        self.average = checkpoint.shard_like(found.tensors.get("average", {}), own)
        randomness.restore(found.tensors["random"], found.facts["python"], self.accelerator.process_index)
        self.loader.load_state_dict(found.facts["loader"])
        if found.facts["scaler"] is not None and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(found.facts["scaler"])
        self._skipped = found.facts["skipped"]

    def trained(self) -> Network:
        """A copy of the model with the weights to use: the averaged ones if the recipe asks for them."""
        model = zoo.build(self.model.config).to(self.accelerator.device)
        model.load_state_dict(checkpoint.gather(self.average or self.model.state_dict()))
        return model.eval()


def _accelerator(recipe: Recipe, out: Path, cpu: bool) -> Accelerator:
    """The devices and processes of a run, with its metric trackers started."""
    AcceleratorState._reset_state()  # a process may run several recipes, each with its own precision
    run = recipe.run
    if process_count() > 1 and not cpu and not torch.accelerator.is_available():
        raise UserError(f"{process_count()} processes, but no GPUs for them; add --device cpu")
    accelerator = Accelerator(
        mixed_precision="no" if run.precision == "fp32" else run.precision,
        gradient_accumulation_steps=run.accumulate,
        cpu=cpu,
        log_with=metric_trackers.installed(run.trackers),
        project_dir=out,
    )
    if run.precision == "fp16" and accelerator.device.type == "cpu":
        raise UserError("run.precision: fp16 needs a GPU; use bf16 or fp32 on a CPU")
    metric_trackers.start(accelerator, recipe)
    return accelerator


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop. It can be resumed."""

    def __init__(self, number: int, step: int) -> None:
        name = signal.Signals(number).name
        super().__init__(f"stopped by {name} after step {step}; continue with --resume")
        self.number = number
