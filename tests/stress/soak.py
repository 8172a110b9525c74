"""Tracks two streams that break off and come back, opens and closes sessions, and runs many in threads.

Memory, threads and open files must level off; sessions in threads must give what single runs give.
"""

from __future__ import annotations

import gc
import hashlib
import os
import re
import tempfile
import time
from argparse import ArgumentParser, Namespace
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import ookd
from data.test_video_live import rtsp_server
from data.video_files import write_video
from ookd.api import Tracker
from ookd.data.video import VideoWriter, live
from tracking.colour_model import scene

EVERY = 10.0  # seconds between two looks
GROWN = 16.0  # MB that memory may grow by after the first third
SESSIONS, THREADS = 100, 16


@dataclass(frozen=True, slots=True)
class Look:
    """What this process holds."""

    memory: float  # MB
    threads: int
    files: int

    @classmethod
    def now(cls) -> Look:
        gc.collect()
        status = Path("/proc/self/status").read_text()
        memory, threads = (int(re.search(rf"{name}:\s+(\d+)", status)[1]) for name in ("VmRSS", "Threads"))  # type: ignore[index]
        return cls(memory / 1024, threads, len(os.listdir("/proc/self/fd")))

    def __str__(self) -> str:
        return f"{self.memory:.0f} MB, {self.threads} threads, {self.files} files"


def options(parser: ArgumentParser) -> None:
    parser.add_argument("parts", nargs="*", help="streams, sessions, threads; all if none")
    parser.add_argument("--minutes", type=float, default=120.0, help="of the streams")
    parser.add_argument("--fps", type=float, default=10.0, help="frames that each stream sends in a second")
    parser.add_argument("--model", default="nano")


def run(asked: Namespace) -> int:
    tracker = ookd.load(asked.model, "cpu")
    faults = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = {
            "streams": lambda: streams(tracker, folder, 60 * asked.minutes, asked.fps),
            "sessions": lambda: sessions(tracker, folder),
            "threads": lambda: threads(tracker, folder),
        }
        for part, trial in parts.items():
            if part in (asked.parts or parts):
                faults += trial()
    print("\n".join(faults) or "all level")
    return 1 if faults else 0


def streams(tracker: Tracker, folder: Path, seconds: float, fps: float) -> list[str]:
    """Two streams at once; each breaks off after a hundred frames and is there again half a second later."""
    end, asked, counts = Event(), [], [0, 0]

    def follow(number: int) -> None:
        content = write_video(folder / f"{number}.ts", 100, size=(96, 128)).read_bytes()
        port, requests = rtsp_server(content, 100 / fps)
        asked.append(requests)
        with closing(ookd.track(f"rtsp://127.0.0.1:{port}/cam", tracker)) as results:
            for _ in results:
                counts[number] += 1
                if end.is_set():
                    return

    live.FIRST_WAIT = 0.5
    running = [Thread(target=follow, args=(number,)) for number in range(2)]
    for thread in running:
        thread.start()
    began, looks = time.monotonic(), []
    while (passed := time.monotonic() - began) < seconds and all(thread.is_alive() for thread in running):
        time.sleep(min(EVERY, seconds / 20))
        looks.append(Look.now())
        if len(looks) % 6 == 1:
            print(f"{passed:.0f} s: {looks[-1]}, {counts} frames", flush=True)
    faults = [] if all(thread.is_alive() for thread in running) else ["a stream ended by itself"]
    end.set()
    for thread in running:
        thread.join(60)
    connections = [requests.count("PLAY") for requests in asked]
    print(f"{passed:.0f} s, {counts} frames, {connections} connections: {looks[-1]}")
    if min(connections) < 3:
        faults.append(f"only {connections} connections")
    return faults + level("streams", looks)


def sessions(tracker: Tracker, folder: Path) -> list[str]:
    """A hundred videos one after the other, each opened, tracked for some frames, and left."""
    video = squares(folder / "a.mp4", 0)
    looks = []
    for _ in range(SESSIONS):
        with closing(ookd.track(video, tracker)) as results:
            for _ in range(3):
                next(results)
        looks.append(Look.now())
    print(f"{SESSIONS} sessions: {looks[0]}, then {looks[-1]}")
    return level("sessions", looks)


def threads(tracker: Tracker, folder: Path) -> list[str]:
    """Sessions of other videos in threads, with one model."""
    videos = [squares(folder / f"{number}.mp4", 3 * number) for number in range(THREADS)]
    single = [digest(tracker, video) for video in videos]
    with ThreadPoolExecutor(THREADS) as pool:
        together = list(pool.map(lambda video: digest(tracker, video), videos))
    differ = sum(a != b for a, b in zip(single, together, strict=True))
    print(f"{THREADS} sessions in threads: {differ} differ; {len(set(single))} different videos")
    return [f"{differ} of {THREADS} sessions in threads differ from single runs"] if differ else []


def level(what: str, looks: list[Look]) -> list[str]:
    """What rose, after the first third, in which all is loaded that will be."""
    begin = looks[len(looks) // 3 :]
    first, last = begin[: max(1, len(begin) // 4)], begin[-max(1, len(begin) // 4) :]
    grown = sum(look.memory for look in last) / len(last) - sum(look.memory for look in first) / len(first)
    faults = [f"{what}: memory grew by {grown:.0f} MB"] if grown > GROWN else []
    for name in ("threads", "files"):
        before, after = (max(getattr(look, name) for look in some) for some in (first, last))
        faults += [f"{what}: {before} {name}, later {after}"] if after > before + 2 else []
    return faults


def squares(path: Path, first: int) -> Path:
    with VideoWriter(path, fps=20) as writer:
        for frame in range(10):
            writer.write(scene(first + frame))
    return path


def digest(tracker: Tracker, video: Path) -> str:
    """Of all that is said about a video."""
    told = hashlib.sha256()
    for result in ookd.track(video, tracker):
        for array in (result.ids, result.labels, result.scores, result.boxes_xyxy, result.masks):
            told.update(array.tobytes())
    return told.hexdigest()
