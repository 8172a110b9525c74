"""Time and memory of a training step, and where the time goes.

IDOL and SeqFormer step on one clip of 480x864 (a pair; five frames), nano as its recipe says, in several
precisions and memory layouts. Every case has a process of its own, so that its peak memory is its own. The
loader is also measured alone: no training can be faster.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from contextlib import closing
from itertools import islice

from measuring import Table, apart, peak_memory
from ookd import config
from speed.loader import count_frames
from steps import WARM_UP, Steps, shortened

PUBLISHED = [
    "data.train=[{kind: world, change: {height: 480, width: 864}}]",
    "data.augment={flip: 0.5}",
    "data.batch=1",
    "model.start=null",
]
CASES: dict[str, tuple[str, list[str]]] = {
    "idol-r50": ("idol-r50-ytvis19", PUBLISHED),
    "idol-r50,bf16": ("idol-r50-ytvis19", [*PUBLISHED, "run.precision=bf16"]),
    "seqformer-r50": ("seqformer-r50-ytvis19", PUBLISHED),
    "seqformer-r50,recompute": ("seqformer-r50-ytvis19", [*PUBLISHED, "run.recompute=true"]),
    "seqformer-r50,bf16": ("seqformer-r50-ytvis19", [*PUBLISHED, "run.precision=bf16"]),
    "nano,fp32": ("nano-ytvis-like", ["run.precision=fp32", "run.channels_last=false"]),
    "nano,fp32,channels_last": ("nano-ytvis-like", ["run.precision=fp32"]),
    "nano,bf16": ("nano-ytvis-like", ["run.channels_last=false"]),
    "nano,bf16,channels_last": ("nano-ytvis-like", []),
    "nano,bf16,channels_last,adamw": ("nano-ytvis-like", ["optim.kind=adamw"]),
}


def options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--cases", nargs="+", default=list(CASES), choices=list(CASES), metavar="CASE", help=", ".join(CASES))
    add("--steps", type=int, default=6, help=f"that count, after {WARM_UP} that do not")
    add("--workers", type=int, default=2, help="loader processes")
    add("--device", choices=["cpu", "auto"], default="cpu")


def run(given: argparse.Namespace) -> None:
    columns = {
        "case": "",
        "frames a step": "",
        **dict.fromkeys(["s a step", "spread"], ".3f"),
        **dict.fromkeys(["frames/s", "loader alone, frames/s"], ".1f"),
        **dict.fromkeys(["waits for loader", "matcher", "model"], ".0%"),
        "peak GiB": ".1f",
    }
    with Table(given, columns) as table:
        for name in given.cases:
            table.add(name, *apart(measure, name, given))


def measure(name: str, given: argparse.Namespace) -> list[float]:
    """The cells of a row."""
    base, changes = CASES[name]
    recipe = config.load(base, [*changes, f"data.workers={given.workers}"])
    recipe = shortened(recipe, given.steps + WARM_UP, threads=given.threads)
    with tempfile.TemporaryDirectory() as folder:
        steps = Steps(recipe, folder, given.device == "cpu")
        with closing(iter(steps.trainer.loader)) as batches:
            count_frames(islice(batches, 3 * given.workers))  # prepared while the workers start
            began = time.perf_counter()
            loader = count_frames(islice(batches, given.steps)) / (time.perf_counter() - began)
        steps.trainer.fit()
    seconds = steps.seconds()
    median, spread = statistics.median(seconds), max(seconds) - min(seconds)
    parts = [sum(steps.spent(part)) / sum(seconds) for part in ("loader", "matcher", "model")]
    return [steps.frames, median, spread, steps.frames / median, loader, *parts, peak_memory() / 2**30]
