"""How fast does `ookd serve` answer cameras, and does it grow?

The server runs in its own process, with --model exported to OpenVINO at --size. Cameras are threads here that
send the JPEGs of a synthetic scene, one in flight each. Resident memory, threads and open files are those of
the server: when it has loaded, and after each quarter of the time. Start-up is from the start of Python to
the first answer.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from urllib.request import urlopen

import numpy as np
from PIL import Image as Pillow
from websockets.sync.client import connect

from measuring import Table
from ookd.worlds import World

QUARTERS = 4


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="nano")
    parser.add_argument("--size", default="160x288", help="of the export")
    parser.add_argument("--picture", default="360x640", help="what a camera sends")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--seconds", type=float, default=30.0, help="of each row")
    parser.add_argument("--fps", type=float, help="of a camera; if not given, as fast as it is answered")


def run(given: argparse.Namespace) -> None:
    columns = {"streams": "", "frames": "", "frames/s": ".1f", "p50 (ms)": ".0f", "p95 (ms)": ".0f"}
    columns |= {"start-up (s)": ".1f", "memory (MB)": "", "threads": "", "files": ""}
    height, width = map(int, given.picture.split("x"))
    pictures = drawn(height, width)
    with tempfile.TemporaryDirectory() as folder, Table(given, columns) as table:
        exported = Path(folder) / "exported"
        command = ["export", given.model, str(exported), "--size", given.size, "--no-check"]
        subprocess.run([sys.executable, "-m", "ookd", *command], check=True, stdout=subprocess.DEVNULL)
        for streams in given.streams:
            with server(exported, streams) as (port, process, started):
                held = [holdings(process)]
                trips = cameras(port, process, pictures, streams, given, held)
                p50, p95 = np.percentile(trips, [50, 95]) * 1000
                course = (", ".join(map(str, kind)) for kind in zip(*held, strict=True))
                table.add(streams, len(trips), len(trips) / given.seconds, p50, p95, started, *course)


@contextmanager
def server(model: Path, streams: int) -> Iterator[tuple[int, int, float]]:
    """The port and process id of `ookd serve`, and the seconds until it answered."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "ookd", "serve", "--model", str(model), "--port", "0", "--json"]
    process = subprocess.Popen([*command, "--streams", str(streams)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["address"]
        while True:
            try:
                urlopen(f"{address}healthz", timeout=5).close()
                break
            except OSError:
                time.sleep(0.05)
        yield int(address.rstrip("/").rpartition(":")[2]), process.pid, time.perf_counter() - begin
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def cameras(
    port: int,
    process: int,
    pictures: list[bytes],
    streams: int,
    given: argparse.Namespace,
    held: list[tuple[int, int, int]],
) -> list[float]:
    """Seconds from each picture to its answer. What the server holds is noted after each quarter."""
    trips: list[float] = []
    begin = time.perf_counter()

    def watch(number: int) -> None:
        with connect(f"ws://localhost:{port}/stream") as stream:
            stream.send("{}")
            stream.recv()
            for picture in cycle(pictures[number:] + pictures[:number]):
                sent = time.perf_counter()
                if sent - begin > given.seconds:
                    break
                stream.send(picture)
                stream.recv()
                trips.append(time.perf_counter() - sent)
                if given.fps:  # wait for the camera's next picture; those that came meanwhile are skipped
                    time.sleep(1 / given.fps - (time.perf_counter() - begin) % (1 / given.fps))

    threads = [threading.Thread(target=watch, args=(number,)) for number in range(streams)]
    for thread in threads:
        thread.start()
    for quarter in range(1, QUARTERS + 1):
        time.sleep(max(0.0, begin + quarter * given.seconds / QUARTERS - time.perf_counter()))
        held.append(holdings(process))
    for thread in threads:
        thread.join()
    return trips


def drawn(height: int, width: int) -> list[bytes]:
    """The frames of a scene as a browser sends them."""
    world = World("ytvis-like", split="test", seed=5, videos=1, height=height, width=width)
    pictures = []
    for frame in range(world.video_length(0)):
        data = io.BytesIO()
        Pillow.fromarray(world.clip(0, [frame]).images[0]).save(data, "JPEG", quality=80)
        pictures.append(data.getvalue())
    return pictures


def holdings(process: int) -> tuple[int, int, int]:
    """Resident MB, threads and open files of a process."""
    status = Path(f"/proc/{process}/status").read_text()
    memory, threads = (int(re.findall(rf"{name}:\s+(\d+)", status)[0]) for name in ("VmRSS", "Threads"))
    return round(memory * 1024 / 1e6), threads, len(os.listdir(f"/proc/{process}/fd"))
