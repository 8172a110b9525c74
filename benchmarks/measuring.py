"""What all benchmarks share: clocks, processes of their own, and tables."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ookd.machine import machine

Answer = TypeVar("Answer")


@dataclass(slots=True)
class Times:
    """Seconds of each run of something."""

    clock: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)  # of all threads; other work disturbs it less

    @property
    def median(self) -> float:
        return statistics.median(self.clock)

    @property
    def spread(self) -> float:
        """Slowest - fastest."""
        return max(self.clock) - min(self.clock)


def alternate(runs: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Times]:
    """Time every run. After a warm-up they take turns, so that other work disturbs all alike."""
    times = {name: Times() for name in runs}
    for run in runs.values():
        run()
    for _ in range(repeats):
        for name, run in runs.items():
            synchronize()
            clock, processor = time.perf_counter(), time.process_time()
            run()
            synchronize()
            times[name].clock.append(time.perf_counter() - clock)
            times[name].processor.append(time.process_time() - processor)
    return times


def gpu() -> Any:
    """`torch.cuda` if it is in use. PyTorch is not imported for this: it takes memory."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch and torch.cuda.is_initialized() else None


def synchronize() -> None:
    """Wait until a GPU has done what it was asked for."""
    if cuda := gpu():
        cuda.synchronize()


def apart(function: Callable[..., Answer], *arguments: Any) -> Answer:
    """What the function of a module answers in a fresh process, whose memory is its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(_call, function, arguments).result()


def _call(function: Callable[..., Answer], arguments: Sequence[Any]) -> Answer:
    multiprocessing.set_start_method(None, force=True)  # its own processes start in the usual way
    return function(*arguments)


def peak_memory() -> float:
    """The most bytes that this process has held: of a GPU if it uses one."""
    if cuda := gpu():
        return float(cuda.max_memory_allocated())
    status = Path("/proc/self/status")
    if status.is_file():  # `getrusage` counts the process that started this one, too
        return 1024 * float(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())[0])
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


class Table:
    """Prints rows as they come, in Markdown; with `--json` all of them at the end.

    Machine and options stand above. `columns` are the headings, each with the format of its values.
    """

    def __init__(self, given: argparse.Namespace, columns: Mapping[str, str]) -> None:
        import torch

        self.columns, self.json = columns, given.json
        name = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
        self.facts = {
            "machine": {**machine(), **name, "threads": torch.get_num_threads()},
            "options": {k: v for k, v in vars(given).items() if k not in ("json", "threads") and is_set(v)},
        }
        self.rows: list[dict[str, Any]] = []

    def __enter__(self) -> Table:
        if not self.json:
            for facts in self.facts.values():
                print("; ".join(f"{k} {shown(v)}" for k, v in facts.items()))
            print("\n" + markdown(self.columns, []), flush=True)
        return self

    def add(self, *values: Any) -> None:
        self.rows.append(dict(zip(self.columns, values, strict=True)))
        if not self.json:
            print(line(map(_cell, values, self.columns.values())), flush=True)

    def note(self, text: str) -> None:
        """A sentence below the table."""
        if self.json:
            self.facts.setdefault("notes", []).append(text)
        else:
            print(f"\n{text}")

    def __exit__(self, kind: object, *_: object) -> None:
        if self.json and kind is None:
            print(json.dumps({**self.facts, "rows": self.rows}, indent=1, default=str))


def markdown(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    headings = list(headings)
    return "\n".join([line(headings), "|" + "---|" * len(headings), *map(line, rows)])


def line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def is_set(value: Any) -> bool:
    return value is not None and value is not False and value != []


def shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _cell(value: Any, form: str) -> str:
    return "" if value is None else format(value, form) if form else str(value)
