"""What many rounds of abuse leave behind in a server's process."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from ookd.serve import connections, routes, stream
from serve.abuse import CASES, RULES, Case
from serve.serving import served, wait_for


@contextmanager
def impatient() -> Iterator[None]:
    """A server in this process waits for nobody."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (routes, stream, connections):
            patch.setattr(module, "WAIT_SECONDS", 1.0)
        patch.setattr(stream, "IDLE_SECONDS", 1.0)
        patch.setattr(connections, "HEAD_SECONDS", 1.0)
        yield


def gauge(port: int, name: str) -> float:
    (line,) = [one for one in metrics(port) if one.startswith(f"{name} ")]
    return float(line.split()[1])


def metrics(port: int) -> list[str]:
    return httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text.splitlines()


def rounds_of_abuse(folder: Path) -> list[tuple[int, int, int]]:
    """Bytes, threads and open files after the second round and after the third."""

    def held() -> tuple[int, int, int]:
        wait_for(lambda: gauge(port, "ookd_live_streams") == 0)
        time.sleep(11)  # idle connections are closed, and workers idle for so long end at the next request
        gauge(port, "ookd_live_streams")
        time.sleep(0.5)
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE"), threading.active_count(), len(os.listdir("/proc/self/fd"))

    with impatient(), served(rules=RULES) as running:
        port = running.port
        measured = []
        for _ in range(3):
            with ThreadPoolExecutor(8) as together:
                list(together.map(lambda case: _tried(case, port, folder), CASES.values()))
            measured.append(held())
    return measured[1:]


def _tried(case: Case, port: int, folder: Path) -> None:
    """Side by side the cases get in each other's way; only the server counts."""
    with suppress(Exception):
        case(port, folder)
