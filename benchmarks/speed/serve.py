"""How fast does `ookd serve` answer cameras, and does its memory grow?

The server runs in its own process, with --model exported to OpenVINO at --size. Cameras are threads here that
send the JPEGs of a synthetic scene, one in flight each. Memory is resident, of the server: when it has
loaded, after the first 200 frames, and at the end. Start-up is from the start of Python to the first answer.
"""

from __future__ import annotations

import argparse
import io
import json
import os
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

SETTLED = 200  # frames until caches are full


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="nano")
    parser.add_argument("--size", default="160x288", help="of the export")
    parser.add_argument("--picture", default="360x640", help="what a camera sends")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--seconds", type=float, default=30.0, help="of each row")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between two frames of a camera")


def run(given: argparse.Namespace) -> None:
    megabytes = ["loaded (MB)", f"frame {SETTLED} (MB)", "end (MB)"]
    columns = {"streams": "", "frames": "", "frames/s": ".1f", "p50 (ms)": ".0f", "p95 (ms)": ".0f"}
    columns |= {"start-up (s)": ".1f", **dict.fromkeys(megabytes, ".0f")}
    height, width = map(int, given.picture.split("x"))
    pictures = drawn(height, width)
    with tempfile.TemporaryDirectory() as folder, Table(given, columns) as table:
        exported = Path(folder) / "exported"
        command = ["export", given.model, str(exported), "--size", given.size, "--no-check"]
        subprocess.run([sys.executable, "-m", "ookd", *command], check=True, stdout=subprocess.DEVNULL)
        for streams in given.streams:
            with server(exported, streams) as (port, process, started):
                loaded = memory(process)
                trips, seconds, settled = cameras(port, process, pictures, streams, given)
                p50, p95 = np.percentile(trips, [50, 95]) * 1000
                fps = len(trips) / seconds
                table.add(streams, len(trips), fps, p50, p95, started, loaded, settled, memory(process))


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
    port: int, process: int, pictures: list[bytes], streams: int, given: argparse.Namespace
) -> tuple[list[float], float, float | None]:
    """Seconds from a picture to its answer, the time that all took, and memory when caches were full."""
    trips: list[float] = []
    settled: list[float] = []
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
                if len(trips) >= SETTLED and not settled:
                    settled.append(memory(process))
                time.sleep(given.pause)

    threads = [threading.Thread(target=watch, args=(number,)) for number in range(streams)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return trips, time.perf_counter() - begin, settled[0] if settled else None


def drawn(height: int, width: int) -> list[bytes]:
    """The frames of a scene as a browser sends them."""
    world = World("ytvis-like", split="test", seed=5, videos=1, height=height, width=width)
    pictures = []
    for frame in range(world.video_length(0)):
        data = io.BytesIO()
        Pillow.fromarray(world.clip(0, [frame]).images[0]).save(data, "JPEG", quality=80)
        pictures.append(data.getvalue())
    return pictures


def memory(process: int) -> float:
    """Resident MB of a process."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
