"""`ookd serve` as a process: it says where it is, does its work, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

import httpx

from docs.pages import ROOT, blocks
from ookd.cli import main
from ookd.serve.listen import bound
from serve.serving import jpeg, wait_for, write_video


@contextmanager
def serving(tmp: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "ookd", "serve", "--port", "0", "--json", *options]
    environment = {**os.environ, "TMPDIR": str(tmp)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["address"]
        wait_for(lambda: _answers(address), 60)
        yield address, process
    finally:
        process.kill()
        process.wait()


def _answers(address: str) -> bool:
    try:
        return httpx.get(address.partition("?")[0] + "healthz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_deletes_what_it_kept(number: signal.Signals, tmp_path: Path) -> None:
    video = write_video(tmp_path / "squares.mp4", 5)
    kept = tmp_path / "kept"
    kept.mkdir()
    with serving(kept) as (address, process):
        answer = httpx.post(f"{address}videos", content=video.read_bytes())
        assert answer.status_code == 201
        assert list(kept.iterdir())
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (0, "stopped\n")
    assert not list(kept.iterdir())


def test_elsewhere_a_token_is_needed(tmp_path: Path) -> None:
    with serving(tmp_path, "--host", "0.0.0.0") as (address, _):
        home, _, token = address.partition("?token=")
        assert len(token) >= 16
        assert httpx.get(f"{home}models").status_code == 401
        assert httpx.get(f"{home}models", headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_the_client_of_the_page_works(tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    (code,) = [block.text for block in blocks(ROOT / "docs" / "serve.md") if block.language == "python"]
    exec(code, names)
    video = write_video(tmp_path / "squares.mp4", 5)
    with serving(tmp_path) as (address, _):
        names["HOME"] = address.removeprefix("http://").rstrip("/")
        assert all({"id", "class", "score"} <= set(track) for track in names["track"](video))
        assert len(list(names["follow"]([jpeg(0), jpeg(1)], score=0.5))) == 2


def test_a_port_that_is_taken_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with bound("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == 2
    assert f"127.0.0.1:{port}: cannot listen there" in capsys.readouterr().err
