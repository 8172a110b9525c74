"""Give the videos to workers, retry failed ones, and replace dead workers."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ookd.errors import UserError
from ookd.fleet.pool import FleetEvent, FleetTask, WorkerPool
from ookd.fleet.process import Processed

WAIT_SECONDS = 0.5
MOST_IDLE_DEATHS = 3  # of each worker, without any work between them


@dataclass(slots=True)
class FleetOutcome:
    """The outcome of every task so far."""

    done: dict[FleetTask, Processed] = field(default_factory=dict)
    failed: dict[FleetTask, str] = field(default_factory=dict)  # the last reason
    frames: int = 0  # tracked in this run, unfinished videos included
    deaths: int = 0  # of workers
    seconds: float = 0.0


@dataclass(slots=True)
class _Running:
    task: FleetTask
    heard: float
    frames: int = 0


def run_fleet(
    tasks: Sequence[FleetTask],
    pool: WorkerPool,
    *,
    retries: int = 2,
    stall_seconds: float = 300.0,
    on_change: Callable[[FleetOutcome], None] = lambda outcome: None,
) -> FleetOutcome:
    """Run all tasks on all workers. A failed task is retried up to `retries` times, after the others.

    A worker without progress for `stall_seconds` is replaced; its video counts as failed once. Workers that
    have not begun yet get no task.
    """
    outcome, tries = FleetOutcome(), Counter[FleetTask]()
    waiting, running = deque(tasks), dict[int, _Running]()
    begin, finished, idle_deaths = time.monotonic(), 0, 0

    def failed(worker: int, reason: str) -> None:
        task = running.pop(worker).task
        tries[task] += 1
        if tries[task] > retries:
            outcome.failed[task] = reason.removeprefix(f"{task.address}: ")
        else:
            waiting.append(task)

    def hear(event: FleetEvent) -> None:
        nonlocal finished, idle_deaths
        now = running.get(event.worker)
        if event.kind == "died":
            outcome.deaths += 1
            idle_deaths += now is None
            if idle_deaths > MOST_IDLE_DEATHS * pool.workers:
                raise UserError(f"workers end before they begin: {event.reason}")
        if now is None:
            return
        idle_deaths = 0
        if event.kind == "progress":
            now.heard, now.frames = time.monotonic(), event.frames
        elif event.kind == "done":
            assert event.result is not None
            del running[event.worker]
            outcome.done[now.task] = event.result
            finished += event.frames
        else:
            failed(event.worker, event.reason)

    while waiting or running:
        for worker in sorted(pool.ready - running.keys()):
            if waiting:
                task = waiting.popleft()
                running[worker] = _Running(task, time.monotonic())
                pool.start(worker, task)
        for event in pool.events(WAIT_SECONDS):
            hear(event)
        for worker, now in list(running.items()):
            if time.monotonic() - now.heard > stall_seconds:
                pool.replace(worker)
                failed(worker, f"no progress for {stall_seconds:g} seconds")
        outcome.frames = finished + sum(now.frames for now in running.values())
        outcome.seconds = time.monotonic() - begin
        on_change(outcome)
    return outcome
