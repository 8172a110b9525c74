"""Whatever clients do, the server stays: it refuses, forgets, and answers the next one."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import httpx
import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("websockets", reason="the extra serve is not installed")

from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from serve.abuse import CASES, RULES, Case, prepare
from serve.rounds import gauge, impatient, rounds_of_abuse
from serve.serving import colour_tracker, served, wait_for

MEMORY_SLACK = 24 << 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    prepare(folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def _impatient() -> Iterator[None]:
    with impatient():
        yield


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with served(rules=RULES) as running:
        yield running.port


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_abuse_ends_and_the_server_stays(case: Case, port: int, folder: Path) -> None:
    case(port, folder)
    assert httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=5).json()["status"] == "ok"
    wait_for(lambda: gauge(port, "ookd_live_streams") == 0)


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="memory is read from /proc")
def test_memory_and_threads_return_to_where_they_were(folder: Path) -> None:
    """All kinds at once, again and again: nothing of them stays. In a process of its own, which other tests
    have not filled."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        memory, threads, files = zip(*process.submit(rounds_of_abuse, folder).result(), strict=True)
    assert memory[-1] - memory[0] < MEMORY_SLACK
    assert threads[-1] <= threads[0] + 2
    assert files[-1] <= files[0] + 2


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
