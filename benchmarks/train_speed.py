"""Time and memory of a training step, and where the time goes.

IDOL and SeqFormer step on one clip of 480 x 864 (a pair; five frames), nano as its recipe says, in several
precisions and memory layouts. Every case has a process of its own, so that its peak memory is its own. The
loader alone is measured too: no training can be faster.

    python benchmarks/train_speed.py --threads 2
    python benchmarks/train_speed.py --device auto --workers 16 --steps 50 --cases idol-r50 nano,bf16
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import resource
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from loader_speed import count
from ookd import config
from ookd.engine.loop import Trainer
from ookd.engine.run_log import RunLog

PUBLISHED = [
    "data.train=[{kind: world, change: {height: 480, width: 864}}]",
    "data.augment={flip: 0.5}",
    "data.batch=1",
    "model.start=null",
]
NANO = ["data.val=null"]
CASES: dict[str, tuple[str, list[str]]] = {
    "idol-r50": ("idol-r50-ytvis19", PUBLISHED),
    "idol-r50,bf16": ("idol-r50-ytvis19", [*PUBLISHED, "run.precision=bf16"]),
    "seqformer-r50": ("seqformer-r50-ytvis19", PUBLISHED),
    "seqformer-r50,recompute": ("seqformer-r50-ytvis19", [*PUBLISHED, "run.recompute=true"]),
    "seqformer-r50,bf16": ("seqformer-r50-ytvis19", [*PUBLISHED, "run.precision=bf16"]),
    "nano,fp32": ("nano-ytvis-like", [*NANO, "run.precision=fp32", "run.channels_last=false"]),
    "nano,fp32,channels_last": ("nano-ytvis-like", [*NANO, "run.precision=fp32"]),
    "nano,bf16": ("nano-ytvis-like", [*NANO, "run.channels_last=false"]),
    "nano,bf16,channels_last": ("nano-ytvis-like", NANO),
    "nano,bf16,channels_last,adamw": ("nano-ytvis-like", [*NANO, "optim.kind=adamw"]),
}
LEFT_OUT = 2  # first steps, in which memory is laid out and kernels are chosen


class Times(RunLog):
    """Keeps the seconds that each step spent on what."""

    def step(
        self, step: int, terms: Any, factor: float, norm: float, frames: int, spent: Any
    ) -> dict[str, float]:
        self.spent = [*getattr(self, "spent", []), dict(spent)]
        self.frames = frames
        return super().step(step, terms, factor, norm, frames, spent)


def measure(name: str, options: argparse.Namespace) -> dict[str, float]:
    """In a process of its own."""
    multiprocessing.set_start_method(None, force=True)  # the loader's begin as in `ookd train`
    recipe_name, changes = CASES[name]
    steps = options.steps + LEFT_OUT
    runs = [f"run.steps={steps}", f"run.threads={options.threads}", f"data.workers={options.workers}"]
    recipe = config.load(recipe_name, [*changes, *runs, f"run.save_every={steps}"])
    with tempfile.TemporaryDirectory() as folder:
        record = Times(recipe, Path(folder), quiet=True)
        trainer = Trainer(recipe, Path(folder), record, cpu=options.device == "cpu")
        with closing(iter(trainer.loader)) as batches:
            count(islice(batches, 3 * options.workers))  # what is prepared while the workers begin
            began = time.perf_counter()
            loader = count(islice(batches, steps)) / (time.perf_counter() - began)
        on_gpu = trainer.accelerator.device.type == "cuda"
        trainer.exact_times = on_gpu
        trainer.fit()
    spent = record.spent[LEFT_OUT:]
    step = [one["all"] for one in spent]
    whole = sum(step)
    memory = (
        torch.cuda.max_memory_allocated()
        if on_gpu
        else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )
    shares = {
        part: sum(one.get(part, 0.0) for one in spent) / whole for part in ("loader", "matcher", "model")
    }
    return {
        "frames": record.frames,
        "step": statistics.median(step),
        "spread": max(step) - min(step),
        "loader_alone": loader,
        "memory": memory / 2**30,
        **shares,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--steps", type=int, default=6, help=f"that count, after {LEFT_OUT} that do not")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--workers", type=int, default=2, help="loader processes")
    parser.add_argument("--device", choices=["cpu", "auto"], default="cpu")
    options = parser.parse_args()
    gpu = torch.cuda.get_device_name() if options.device == "auto" and torch.cuda.is_available() else "no GPU"
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, {gpu}, torch {torch.__version__}, {options.threads} "
        f"threads, {options.workers} loader processes; median of {options.steps} steps (spread: largest - "
        f"smallest), load {os.getloadavg()[0]:.1f}\n"
    )
    print(
        "| case | frames a step | s a step | spread | frames/s | loader alone, frames/s | waits for loader | "
        "matcher | model | peak GiB |"
    )
    print("|---|" + "---|" * 9)
    for name in options.cases:
        fresh = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=fresh) as process:
            row = process.submit(measure, name, options).result()
        print(
            f"| {name} | {row['frames']} | {row['step']:.3f} | {row['spread']:.3f} | "
            f"{row['frames'] / row['step']:.1f} | {row['loader_alone']:.1f} | {row['loader']:.0%} | "
            f"{row['matcher']:.0%} | {row['model']:.0%} | {row['memory']:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
