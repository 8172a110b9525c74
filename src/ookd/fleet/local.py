"""Workers as local processes, each with its own cores and, if there are any, a GPU."""

from __future__ import annotations

import multiprocessing
import signal
import time
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from ookd.errors import UserError
from ookd.fleet.pool import FleetEvent, FleetTask, WorkerPlan, WorkerPool, take_cores
from ookd.fleet.process import FleetModel, process

BEAT_SECONDS = 0.5  # between two progress events


class LocalPool(WorkerPool):
    def __init__(self, plan: WorkerPlan, workers: int) -> None:
        self.plan, self.workers = plan, workers
        self._context = multiprocessing.get_context("spawn")
        self._ready = set[int]()
        self._processes: list[tuple[BaseProcess, Connection]] = [
            self._begin(worker) for worker in range(workers)
        ]

    @property
    def ready(self) -> set[int]:
        return self._ready

    @property
    def process_ids(self) -> list[int]:
        return [process.pid or 0 for process, _ in self._processes]

    def start(self, worker: int, task: FleetTask) -> None:
        with suppress(OSError):  # `events` detects a dead worker
            self._processes[worker][1].send(task)

    def events(self, seconds: float) -> list[FleetEvent]:
        worker_of = {id(connection): number for number, (_, connection) in enumerate(self._processes)}
        found: list[FleetEvent] = []
        for connection in wait([connection for _, connection in self._processes], seconds):
            assert isinstance(connection, Connection)
            number = worker_of[id(connection)]
            try:
                while connection.poll():
                    if (event := connection.recv()) is None:
                        self._ready.add(number)
                    else:
                        found.append(event)
            except (EOFError, OSError):
                found.append(FleetEvent(number, "died", reason=self._cause(number)))
                self.replace(number)
        return found

    def replace(self, worker: int) -> None:
        self._end(worker)
        self._ready.discard(worker)
        self._processes[worker] = self._begin(worker)

    def close(self) -> None:
        for worker in range(self.workers):
            self._end(worker)

    def _begin(self, worker: int) -> tuple[BaseProcess, Connection]:
        ours, theirs = self._context.Pipe()
        arguments = (worker, self.plan, theirs)
        process = self._context.Process(
            target=_work, args=arguments, name=f"ookd fleet {worker}", daemon=True
        )
        process.start()
        theirs.close()
        return process, ours

    def _end(self, worker: int) -> None:
        process, connection = self._processes[worker]
        process.kill()
        process.join()
        connection.close()

    def _cause(self, worker: int) -> str:
        process, _ = self._processes[worker]
        process.join(5)
        code = process.exitcode
        if code is not None and code < 0:
            hint = "; memory may have run out" if code == -signal.SIGKILL else ""
            return f"the worker was killed by signal {-code}{hint}"
        return f"the worker ended with code {code}"


def _work(worker: int, plan: WorkerPlan, connection: Connection) -> None:
    """The loop of a worker: task after task, until the connection closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    take_cores(worker, plan.threads)
    model = FleetModel(plan.settings, plan.device, worker)
    with suppress(EOFError, OSError):
        connection.send(None)  # it has begun
        while True:
            task: FleetTask = connection.recv()
            connection.send(_done(worker, task, model, plan, connection))


def _done(
    worker: int, task: FleetTask, model: FleetModel, plan: WorkerPlan, connection: Connection
) -> FleetEvent:
    last = 0.0

    def tell(frames: int) -> None:
        nonlocal last
        if time.monotonic() - last > BEAT_SECONDS:
            last = time.monotonic()
            connection.send(FleetEvent(worker, "progress", frames))

    tell(0)
    try:
        result = process(task.address, model, plan.out, task.part, tell)
    except (BrokenPipeError, ConnectionResetError):
        raise
    except UserError as error:
        return FleetEvent(worker, "failed", reason=str(error))
    except Exception as error:
        return FleetEvent(worker, "failed", reason=f"{type(error).__name__}: {error}"[:500])
    return FleetEvent(worker, "done", result.frames, result)
