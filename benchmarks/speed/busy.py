"""Tracking on a busy machine: the default number of threads against other numbers.

A number of processes compute without a pause while `ookd track` runs, with weights and with an OpenVINO
model, in turns. A frame costs the difference between a long and a short video.
"""

from __future__ import annotations

import argparse
import multiprocessing
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from measuring import Table
from ookd.cores import usable_cores
from speed.commands import drawn, measure


def options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", default="nano")
    add("--size", default="160x288")
    add("--beside", type=int, nargs="+", default=[0, 6], help="busy processes")
    add("--frames", type=int, nargs=2, default=(20, 80), metavar=("FEW", "MANY"))
    add("--repeats", type=int, default=3)


def run(given: argparse.Namespace) -> None:
    numbers = dict.fromkeys(["clock ms a frame", "processor ms a frame"], ".0f")
    columns = {
        "busy processes": "",
        "runtime": "",
        "threads": "",
        **numbers,
        "clock, against the best": ".2f",
    }
    ookd = [sys.executable, "-m", "ookd"]
    with tempfile.TemporaryDirectory() as scratch, Table(given, columns) as table:
        folder = Path(scratch)
        clips = {n: drawn(folder / f"{n}.mp4", given.size, n) for n in given.frames}
        exported = str(folder / "exported")
        export = [
            *ookd,
            "export",
            given.model,
            exported,
            "--precision",
            "bf16",
            "--size",
            given.size,
            "--no-check",
        ]
        subprocess.run(export, check=True, capture_output=True)
        for beside in given.beside:
            for runtime, model in (("torch", given.model), ("openvino", exported)):
                track = ["track", "{clip}", "--model", model, "--out", "{out}", "--save", "json"]
                counts = {"default": [], **{str(n): ["--threads", str(n)] for n in thread_counts()}}
                commands = {name: [*ookd, *threads, *track] for name, threads in counts.items()}
                with busy(beside):
                    spent = measure(commands, clips, folder / f"{runtime}-{beside}", given.repeats)
                best = min(median(cost.clock) for cost in spent.values())
                for name, cost in spent.items():
                    clock = median(cost.clock)
                    table.add(beside, runtime, name, clock, median(cost.processor), clock / best)


def thread_counts() -> list[int]:
    """1, 2, 4, ... up to the number of cores."""
    cores = len(usable_cores())
    return [n for n in (1, 2, 4, 8, 16, 32, 64, 128) if n <= cores]


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """That many processes compute all the time."""
    running = [multiprocessing.get_context("spawn").Process(target=_compute) for _ in range(processes)]
    for one in running:
        one.start()
    try:
        yield
    finally:
        for one in running:
            one.kill()
            one.join()


def _compute() -> None:
    while True:
        sum(range(10_000))
