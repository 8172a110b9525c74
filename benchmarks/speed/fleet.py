"""What do workers, kills and reruns cost `ookd fleet`?

Synthetic videos go through `process` one after the other in one process, then through processes and Ray
actors, of which some are killed at random moments; files that are not videos are among them. Each row shows
the time, whether all results are the same to the byte, and the time of a rerun, which finds all results. One
core per worker.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from measuring import Table, apart
from ookd.data.video import VideoWriter
from ookd.fleet.local import LocalPool
from ookd.fleet.pool import FleetTask, WorkerPlan, take_cores
from ookd.fleet.process import FleetModel, FleetSettings, path_of, process
from ookd.fleet.run import FleetOutcome, run_fleet
from ookd.worlds import World


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="nano")
    parser.add_argument("--videos", type=int, default=60)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", default="160x288")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--damaged", type=int, default=3, help="files beside the videos")
    parser.add_argument("--pools", nargs="+", default=["processes", "ray"], choices=["processes", "ray"])


def run(given: argparse.Namespace) -> None:
    columns = {"on": "", "workers": "", "killed": "", "done": "", "failed": "", "seconds": ".1f"}
    columns |= {"frames/s": ".1f", "as one process": "", "rerun (ms a video)": ".1f"}
    with tempfile.TemporaryDirectory() as name, Table(given, columns) as table:
        folder = Path(name)
        videos = apart(drawn, folder, given.videos, given.frames, given.size)
        damaged = [folder / f"damaged{number}.mp4" for number in range(given.damaged)]
        for file in damaged:
            file.write_bytes(random.Random(file.name).randbytes(10_000))
        every = [*videos, *map(str, damaged)]
        settings = FleetSettings(given.model, "measured")
        frames, seconds, again = apart(alone, videos, settings, folder / "alone")
        table.add(
            "one process", 1, 0, len(videos), 0, seconds, frames / seconds, "", 1000 * again / len(videos)
        )
        for pool in given.pools:
            for kills in dict.fromkeys((0, given.kills)):
                out = folder / f"{pool}{kills}"
                plan = WorkerPlan(settings, out, "cpu")
                outcome, killed = through(pool, plan, given.workers, every, kills)
                again = through(pool, plan, given.workers, videos, 0)[0].seconds
                same = contents(out) == contents(folder / "alone")
                table.add(
                    *(pool, given.workers, killed, len(outcome.done), len(outcome.failed), outcome.seconds),
                    *(outcome.frames / outcome.seconds, "yes" if same else "no", 1000 * again / len(videos)),
                )
        size = sum(map(len, contents(folder / "alone").values()))
        table.note(f"Results have {size / frames:.0f} bytes a frame.")


def drawn(folder: Path, videos: int, frames: int, size: str) -> list[str]:
    """Videos of different scenes."""
    height, width = map(int, size.split("x"))
    world = World(
        "ytvis-like", split="test", seed=9, videos=videos, frames=frames, height=height, width=width
    )
    paths = [folder / f"{number:04d}.mp4" for number in range(videos)]
    for number, path in enumerate(paths):
        with VideoWriter(path, 12) as writer:
            for frame in range(frames):
                writer.write(world.clip(number, [frame]).images[0])
    return list(map(str, paths))


def alone(videos: Sequence[str], settings: FleetSettings, out: Path) -> tuple[int, float, float]:
    """Frames and seconds of all videos in this process, and the seconds of asking again."""
    take_cores(0, 1)
    model, frames = FleetModel(settings, "cpu"), 0
    begin = time.perf_counter()
    for video in videos:
        frames += process(video, model, out).frames
    middle = time.perf_counter()
    for video in videos:
        process(video, model, out)
    return frames, middle - begin, time.perf_counter() - middle


def through(
    kind: str, plan: WorkerPlan, workers: int, videos: Sequence[str], kills: int
) -> tuple[FleetOutcome, int]:
    """How all videos ended, and how many workers were killed meanwhile."""
    pool: Any = LocalPool(plan, workers)
    if kind == "ray":
        pool.close()
        from ookd.fleet.on_ray import RayPool

        pool = RayPool(plan, workers, None)
    killed, over = [0], threading.Event()
    thread = threading.Thread(target=kill, args=(lambda: pool.process_ids, kills, killed, over))
    with closing(pool):
        thread.start()
        outcome = run_fleet([FleetTask(video) for video in videos], pool, retries=kills + 1)
        over.set()
        thread.join()
    return outcome, killed[0]


def kill(process_ids: Callable[[], list[int]], kills: int, killed: list[int], over: threading.Event) -> None:
    """End workers with SIGKILL now and then."""
    chance = random.Random(0)
    while killed[0] < kills and not over.wait(chance.uniform(2, 8)):
        with suppress(Exception):  # between two lives of a worker
            os.kill(chance.choice(process_ids()), signal.SIGKILL)
            killed[0] += 1


def contents(out: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path_of(out, "00").parent.parent.rglob("*.gz")}
