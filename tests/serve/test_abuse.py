"""Whatever clients do, the server stays: it refuses, forgets, and answers the next one."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("websockets", reason="the extra serve is not installed")

from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from ookd.serve import connections, routes, stream
from serve.abuse import CASES, RULES, Case, prepare
from serve.serving import colour_tracker, served, wait_for

MEMORY_SLACK = 24 << 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    prepare(folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def _impatient() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (routes, stream, connections):
            patch.setattr(module, "WAIT_SECONDS", 1.0)
        patch.setattr(stream, "IDLE_SECONDS", 1.0)
        patch.setattr(connections, "HEAD_SECONDS", 1.0)
        yield


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with served(rules=RULES) as running:
        yield running.port


def gauge(port: int, name: str) -> float:
    (line,) = [one for one in metrics(port) if one.startswith(f"{name} ")]
    return float(line.split()[1])


def metrics(port: int) -> list[str]:
    return httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text.splitlines()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_abuse_ends_and_the_server_stays(case: Case, port: int, folder: Path) -> None:
    case(port, folder)
    assert httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=5).json()["status"] == "ok"
    wait_for(lambda: gauge(port, "ookd_live_streams") == 0)


def test_memory_and_threads_return_to_where_they_were(folder: Path) -> None:
    """All kinds at once, again and again: nothing of them stays."""

    def held() -> tuple[int, int, int]:
        wait_for(lambda: gauge(port, "ookd_live_streams") == 0)
        time.sleep(2.5)  # until idle connections are closed
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE"), threading.active_count(), len(os.listdir("/proc/self/fd"))

    if not Path("/proc/self/statm").is_file():
        pytest.skip("memory is read from /proc")
    with served(rules=RULES) as running:
        port = running.port
        measured = []
        for _ in range(3):
            with ThreadPoolExecutor(8) as together:
                list(together.map(lambda case: _tried(case, port, folder), CASES.values()))
            measured.append(held())
        memory, threads, files = zip(*measured[1:], strict=True)
    assert memory[-1] - memory[0] < MEMORY_SLACK
    assert threads[-1] <= threads[0] + 2
    assert files[-1] <= files[0] + 2


def _tried(case: Case, port: int, folder: Path) -> None:
    """Side by side the cases get in each other's way; only the server counts."""
    with suppress(Exception):
        case(port, folder)


@pytest.mark.parametrize("token", ["righ", "wrong", "ö"])
def test_a_wrong_token_opens_nothing(token: str) -> None:
    with served(token="right") as running:
        home = f"127.0.0.1:{running.port}"
        header = {"Authorization": f"Bearer {token}".encode()}
        assert httpx.get(f"http://{home}/models", headers=header).status_code == 401
        assert httpx.post(f"http://{home}/videos", content=b"x", headers=header).status_code == 401
        with pytest.raises(InvalidStatus):
            connect(f"ws://{home}/stream?token={token}")


def test_scripts_in_names_are_text() -> None:
    names = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "plum"]
    with served(colour_tracker(names)) as running:
        answer = httpx.get(f"http://127.0.0.1:{running.port}/models")
        assert answer.json()[0]["classes"] == names
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
