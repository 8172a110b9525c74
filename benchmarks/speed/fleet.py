"""What do workers, kills and reruns cost `ookd fleet`?

Synthetic videos go through `process` one after the other in one process, then through processes and Ray
actors. With --kills, workers are killed with SIGKILL at random moments, and among the videos are files that
are not videos and a server that says nothing. Each row shows the time, how much faster than one process that
is, whether all results are the same to the byte, and what a rerun costs, which finds all results.

One core per worker. Processor time is that of all processes together; other work on the machine disturbs it
less than the clock. Start-up is from nothing until each worker has loaded the model and tracked a first
short video; the other times are of warm workers. Memory is the peak of the largest worker, and in the next
column that of all started processes together, shared pages counted once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from measuring import Table, apart, peak_memory
from ookd.data.video import VideoWriter
from ookd.errors import UserError
from ookd.fleet.local import LocalPool
from ookd.fleet.pool import FleetTask, WorkerPlan, WorkerPool, take_cores
from ookd.fleet.process import FleetModel, FleetSettings, path_of, process
from ookd.fleet.run import FleetOutcome, run_fleet
from ookd.worlds import World


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="nano")
    parser.add_argument("--videos", type=int, default=60)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", default="160x288")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, nargs="+", default=[0, 5], help="of workers, in each row")
    parser.add_argument("--damaged", type=int, default=3, help="files beside the videos")
    parser.add_argument("--stall", type=float, default=30.0, help="seconds until a silent worker is killed")
    parser.add_argument("--pools", nargs="+", default=["processes", "ray"], choices=["processes", "ray"])


def run(given: argparse.Namespace) -> None:
    if "ray" in given.pools and find_spec("ray") is None:
        raise UserError("ray is not installed; pip install 'ookd[ray]', or give --pools processes")
    columns = {"on": "", "workers": "", "killed": "", "done": "", "failed": "", "start-up (s)": ".1f"}
    columns |= {"seconds": ".1f", "frames/s": ".1f", "of one process": ".2f"}
    columns |= {"processor (ms a video)": ".0f", "same results": ""}
    columns |= {"kept by a rerun": "", "rerun (ms a video)": ".1f", "a worker (MB)": ".0f", "all (MB)": ".0f"}
    with tempfile.TemporaryDirectory() as name, Table(given, columns) as table, silent_server() as silent:
        folder = Path(name)
        first, videos = apart(drawn, folder, given.workers, given.videos, given.frames, given.size)
        damaged = [folder / f"damaged{number}.mp4" for number in range(given.damaged)]
        for file in damaged:
            file.write_bytes(random.Random(file.name).randbytes(10_000))
        bad = [*map(str, damaged), silent]
        settings = FleetSettings(given.model, "measured")
        one = apart(alone, time.time(), first, videos, settings, folder / "alone")
        frames, started, seconds, spent, again, memory = one
        rate = frames / seconds
        each = 1000 / len(videos)
        table.add(
            *("one process", 1, 0, len(videos), 0, started, seconds, rate, 1.0),
            *(spent * each, "", len(videos), again * each, memory / 1e6, memory / 1e6),
        )
        for kills in given.kills:
            for kind in given.pools:
                out = folder / f"{kind}{kills}"
                plan = WorkerPlan(settings, out, "cpu")
                with opened(kind, plan, first, given.workers) as (pool, started):
                    every = mixed(videos, bad if kills else [])
                    before = processor_seconds()
                    outcome, killed = through(pool, every, kills, given.stall)
                    spent = None if kills else (processor_seconds() - before) * each
                    memory, together = (None, None) if kills else memories(pool)
                    rerun, _ = through(pool, videos, 0, given.stall)
                failed = {task.address for task in outcome.failed}
                same = contents(out) == contents(folder / "alone") and failed == set(every) - set(videos)
                kept = sum(done.kept for done in rerun.done.values())
                speed = outcome.frames / outcome.seconds
                table.add(
                    *(kind, given.workers, killed, len(outcome.done), len(failed), started, outcome.seconds),
                    *(speed, speed / rate, spent, "yes" if same else "no", kept),
                    *(rerun.seconds * each, memory, together),
                )
                for task, reason in outcome.failed.items():
                    print(f"{Path(task.address).name}: {reason}", file=sys.stderr)
        size = sum(map(len, contents(folder / "alone").values()))
        table.note(f"Results have {size / frames:.0f} bytes a frame.")
        table.note(command(videos, given, folder))


def drawn(folder: Path, first: int, videos: int, frames: int, size: str) -> tuple[list[str], list[str]]:
    """Videos of different scenes: those that workers begin with, and the others."""
    height, width = map(int, size.split("x"))
    count = {"videos": first + videos, "frames": frames}
    world = World("ytvis-like", split="test", seed=9, height=height, width=width, **count)
    paths = [folder / f"{number:04d}.mp4" for number in range(first + videos)]
    for number, path in enumerate(paths):
        with VideoWriter(path, 12) as writer:
            for frame in range(frames):
                writer.write(world.clip(number, [frame]).images[0])
    names = list(map(str, paths))
    return names[:first], names[first:]


def alone(
    begin: float, first: Sequence[str], videos: Sequence[str], settings: FleetSettings, out: Path
) -> tuple[int, float, float, float, float, float]:
    """What this process needs: frames, seconds until it has begun, of all videos by clock and processor, of
    asking again; memory."""
    take_cores(0, 1)
    model = FleetModel(settings, "cpu")
    for video in first:
        process(video, model, out)
    began, before = time.time(), time.process_time()
    frames = sum(process(video, model, out).frames for video in videos)
    done, spent = time.time(), time.process_time() - before
    for video in videos:
        process(video, model, out)
    return frames, began - begin, done - began, spent, time.time() - done, peak_memory()


@contextmanager
def opened(kind: str, plan: WorkerPlan, first: Sequence[str], workers: int) -> Iterator[tuple[Any, float]]:
    """A pool whose workers have each tracked a first video, and the seconds until then."""
    begin = time.perf_counter()
    if kind == "ray":
        from ookd.fleet.on_ray import RayPool

        pool: WorkerPool = RayPool(plan, workers, None)
    else:
        pool = LocalPool(plan, workers)
    with closing(pool):
        run_fleet([FleetTask(video) for video in first], pool)
        yield pool, time.perf_counter() - begin


def through(pool: Any, videos: Sequence[str], kills: int, stall: float) -> tuple[FleetOutcome, int]:
    """How all videos ended, and how many workers were killed meanwhile."""
    killed, over = [0], threading.Event()
    thread = threading.Thread(target=kill, args=(lambda: pool.process_ids, kills, killed, over))
    thread.start()
    outcome = run_fleet([FleetTask(video) for video in videos], pool, stall_seconds=stall)
    over.set()
    thread.join()
    return outcome, killed[0]


def kill(process_ids: Callable[[], list[int]], kills: int, killed: list[int], over: threading.Event) -> None:
    """End workers with SIGKILL now and then."""
    chance = random.Random(0)
    while killed[0] < kills and not over.wait(chance.uniform(1, 6)):
        with suppress(Exception):  # between two lives of a worker
            os.kill(chance.choice(process_ids()), signal.SIGKILL)
            killed[0] += 1


def mixed(videos: Sequence[str], bad: Sequence[str]) -> list[str]:
    """The bad ones at fixed places among the others."""
    every = list(videos)
    for number, one in enumerate(bad):
        every.insert((2 * number + 1) * len(videos) // (2 * len(bad)), one)
    return every


@contextmanager
def silent_server() -> Iterator[str]:
    """It takes connections and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/silent.mp4"


def command(videos: Sequence[str], given: argparse.Namespace, folder: Path) -> str:
    """What `ookd fleet` itself adds: it loads the model first and writes tables at the end."""
    (folder / "list.txt").write_text("\n".join(videos))
    arguments = ["fleet", str(folder / "list.txt"), "--model", given.model, "--out", str(folder / "command")]
    arguments += ["--workers", str(given.workers), "--device", "cpu", "--json"]
    seconds, kept = [], []
    for _ in range(2):
        begin = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "ookd", *arguments], check=True, capture_output=True)
        seconds.append(time.perf_counter() - begin)
        kept.append(json.loads(done.stdout)["kept"])
    return (
        f"The whole command `ookd fleet` takes {seconds[0]:.1f} s for these videos. Again it takes "
        f"{seconds[1]:.1f} s and keeps {kept[1]}."
    )


def memories(pool: Any) -> tuple[float, float]:
    """MB of the largest worker at its peak, and of all processes that this one has started."""
    peak = max(megabytes(process, "status", "VmHWM") for process in pool.process_ids)
    return peak, sum(megabytes(process, "smaps_rollup", "Pss") for process in descendants(os.getpid()))


def processor_seconds() -> float:
    """Of this process and all that it has started, as far as they still run."""
    ticks = 0
    for number in (os.getpid(), *descendants(os.getpid())):
        with suppress(OSError):  # it has ended
            figures = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
            ticks += int(figures[11]) + int(figures[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def descendants(process: int) -> list[int]:
    """All processes that this one has started, and those that they have started."""
    found = []
    for thread in Path(f"/proc/{process}/task").glob("*"):
        with suppress(OSError):  # it has ended
            for child in map(int, (thread / "children").read_text().split()):
                found += [child, *descendants(child)]
    return found


def megabytes(process: int, file: str, name: str) -> float:
    """0 for a process that has ended."""
    with suppress(OSError):
        text = Path(f"/proc/{process}/{file}").read_text()
        return int(re.findall(rf"^{name}:\s+(\d+) kB", text, re.M)[0]) * 1024 / 1e6
    return 0.0


def contents(out: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path_of(out, "00").parent.parent.rglob("*.gz")}
