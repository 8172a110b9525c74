"""Workers as Ray actors, on this machine or on a cluster."""

from __future__ import annotations

import logging
import os
import sys
import time
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from ookd.errors import UserError
from ookd.fleet.pool import FleetEvent, FleetTask, WorkerPlan, WorkerPool, take_cores
from ookd.fleet.process import FleetModel, process


@dataclass(slots=True)
class _Place:
    """An actor and its current task."""

    actor: Any
    begun: Any  # the future sign that it has; None afterwards
    task: Any = None  # the future result
    beat: Any = None  # the future count of frames
    asked: float = field(default_factory=time.monotonic)


class FleetActor:
    """Holds the model. One thread works, another reports progress."""

    def __init__(self, plan: WorkerPlan, place: int | None) -> None:
        if place is not None:  # on this machine, where each worker gets its own cores
            take_cores(place, plan.threads)
        self.plan, self.model, self.steps = plan, FleetModel(plan.settings, plan.device), 0
        self.frames = 0

    def work(self, task: FleetTask) -> tuple[Any, str]:
        def tell(frames: int) -> None:
            self.frames, self.steps = frames, self.steps + 1

        tell(0)
        try:
            return process(task.address, self.model, self.plan.out, task.part, tell), ""
        except UserError as error:
            return None, str(error)
        except Exception as error:
            return None, f"{type(error).__name__}: {error}"[:500]

    def progress(self) -> tuple[int, int]:
        """Frames of the current video, and a number that changes with every step."""
        return self.frames, self.steps

    def process_id(self) -> int:
        return os.getpid()


class RayPool(WorkerPool):
    """All machines must share the output folder. `address` is that of a cluster; None is this machine."""

    def __init__(self, plan: WorkerPlan, workers: int, address: str | None, gpus: float = 0.0) -> None:
        self.plan, self.workers = plan, workers
        with ExitStack() as stack:
            stack.enter_context(redirect_stdout(sys.stderr))  # Ray prints there when a worker dies
            stack.callback(ray.shutdown)
            self._init(address)
            actor: Any = ray.remote(FleetActor)
            self._actor = actor.options(num_cpus=plan.threads, num_gpus=gpus, max_concurrency=2)
            self._alone = address is None
            self._places = [self._begin(worker) for worker in range(workers)]
            self._steps = [0] * workers
            self._stack = stack.pop_all()

    def _init(self, address: str | None) -> None:
        local = {"num_cpus": self.workers * self.plan.threads, "include_dashboard": False}
        try:
            ray.init(
                address=address,
                logging_level=logging.ERROR,
                log_to_driver=False,
                **({} if address else local),
            )
        except Exception as error:  # a node that is slow to start raises nothing more exact
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise UserError(f"Ray at {address or 'this machine'}: {reason}") from None

    @property
    def ready(self) -> set[int]:
        return {number for number, place in enumerate(self._places) if place.begun is None}

    @property
    def process_ids(self) -> list[int]:
        pids: list[int] = ray.get([place.actor.process_id.remote() for place in self._places])
        return pids

    def start(self, worker: int, task: FleetTask) -> None:
        place = self._places[worker]
        place.task = place.actor.work.remote(task)
        place.beat, place.asked = None, time.monotonic()

    def events(self, seconds: float) -> list[FleetEvent]:
        now = time.monotonic()
        for place in self._places:
            if place.task is not None and place.beat is None and now - place.asked > 1:
                place.beat, place.asked = place.actor.progress.remote(), now
        futures = [(place.begun, place.task, place.beat) for place in self._places]
        asked = [future for of_place in futures for future in of_place if future is not None]
        if not asked:
            time.sleep(seconds)
            return []
        ready, _ = ray.wait(asked, num_returns=1, timeout=seconds)
        found = []
        for number, (place, of_place) in enumerate(zip(self._places, futures, strict=True)):
            if any(future in ready for future in of_place):
                found += self._news(number, place, place.task in ready)
        return found

    def replace(self, worker: int) -> None:
        ray.kill(self._places[worker].actor)
        self._places[worker] = self._begin(worker)

    def close(self) -> None:
        self._stack.close()

    def _begin(self, worker: int) -> _Place:
        actor = self._actor.remote(self.plan, worker if self._alone else None)
        return _Place(actor, actor.process_id.remote())

    def _news(self, number: int, place: _Place, over: bool) -> list[FleetEvent]:
        try:
            if over:
                result, reason = ray.get(place.task)
                place.task = place.beat = None
                if result is None:
                    return [FleetEvent(number, "failed", reason=reason)]
                return [FleetEvent(number, "done", result.frames, result)]
            if place.begun is not None:
                ray.get(place.begun)
                place.begun = None
                return []
            frames, steps = ray.get(place.beat)
            place.beat, moved = None, steps != self._steps[number]
            self._steps[number] = steps
            return [FleetEvent(number, "progress", frames)] if moved else []
        except RayActorError as error:
            reason = "the worker was killed; memory may have run out"
            if "out of memory" in str(error).lower():
                reason = "memory ran out"
            self._places[number] = self._begin(number)
            return [FleetEvent(number, "died", reason=reason)]
        except RayError as error:
            self.replace(number)
            return [FleetEvent(number, "died", reason=" ".join(str(error).split())[:300])]
