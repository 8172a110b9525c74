"""The interface of a pool of workers."""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ookd.cores import usable_cores, use_threads
from ookd.fleet.process import FleetSettings, Processed


@dataclass(frozen=True, slots=True)
class FleetTask:
    """One video, or some frames of one."""

    address: str
    part: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class FleetEvent:
    """A worker's news about its task."""

    worker: int
    kind: Literal["progress", "done", "failed", "died"]
    frames: int = 0  # done so far
    result: Processed | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """The settings of every worker."""

    settings: FleetSettings
    out: Path
    device: str = "auto"
    threads: int = 1


class WorkerPool(ABC):
    """Workers by number, each with one task at a time. A dead worker is replaced at once."""

    workers: int

    @property
    @abstractmethod
    def ready(self) -> Set[int]:
        """The workers that have begun. Others may have to wait, for instance for a place on a cluster."""

    @abstractmethod
    def start(self, worker: int, task: FleetTask) -> None:
        """Give a free worker that has begun its next task."""

    @abstractmethod
    def events(self, seconds: float) -> list[FleetEvent]:
        """What has happened; waits up to `seconds` if nothing has."""

    @abstractmethod
    def replace(self, worker: int) -> None:
        """Kill a worker and start a new one."""

    @abstractmethod
    def close(self) -> None: ...


def take_cores(worker: int, threads: int) -> None:
    """Pin this process to its own cores, so that results do not depend on the number of workers."""
    cores = sorted(usable_cores())
    if sys.platform == "linux":
        os.sched_setaffinity(0, {cores[(worker * threads + n) % len(cores)] for n in range(threads)})
    use_threads(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
