"""Many videos on workers that are killed, with videos that are damaged and servers that say nothing."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow", reason="the extra fleet is not installed")
pytest.importorskip("fsspec", reason="the extra fleet is not installed")

from fleet.filming import SETTINGS, film
from ookd.cli import main
from ookd.errors import UserError
from ookd.fleet.local import LocalPool
from ookd.fleet.pool import FleetTask, WorkerPlan, WorkerPool
from ookd.fleet.process import FleetModel, path_of, process
from ookd.fleet.run import run_fleet

KILLS = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten good videos and three damaged ones."""
    folder = tmp_path_factory.mktemp("videos")
    good = film(folder, 10, frames=6)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "noise.mp4").write_bytes(random.Random(0).randbytes(5000))
    (folder / "short.mp4").write_bytes(good[0].read_bytes()[:500])
    return folder


@pytest.fixture(scope="module")
def alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The results of one process, one video after the other."""
    out, model = tmp_path_factory.mktemp("alone"), FleetModel(SETTINGS, "cpu")
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    names = [str(path) for path in sorted(folder.glob("[0-9]*.mp4"))]
    found = {name: path_of(out, process(name, model, out).key).read_bytes() for name in names}
    torch.set_num_threads(before)
    return found


@contextmanager
def killing(pool: Any, kills: int) -> Iterator[list[int]]:
    """End workers with SIGKILL at random moments."""
    chance, killed, over = random.Random(1), list[int](), threading.Event()

    def kill() -> None:
        while len(killed) < kills and not over.wait(chance.uniform(0.2, 3.0)):
            with suppress(Exception):  # between two lives of a worker
                pid = chance.choice(pool.process_ids)
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def check(pool: WorkerPool, folder: Path, alone: dict[str, bytes], out: Path) -> None:
    """All good videos are done, to the byte as one process does them; the damaged ones say why not."""
    tasks = [FleetTask(str(path)) for path in sorted(folder.glob("*.mp4"))]
    with closing(pool), killing(pool, KILLS) as killed:
        outcome = run_fleet(tasks, pool, retries=KILLS + 1)
    assert killed
    assert {Path(task.address).name for task in outcome.failed} == {"empty.mp4", "noise.mp4", "short.mp4"}
    assert all(reason for reason in outcome.failed.values())
    got = {task.address: path_of(out, done.key).read_bytes() for task, done in outcome.done.items()}
    assert got == alone
    assert not list(out.rglob("*.part"))


def test_local_processes_survive_kills(folder: Path, alone: dict[str, bytes], tmp_path: Path) -> None:
    check(LocalPool(WorkerPlan(SETTINGS, tmp_path, "cpu"), 2), folder, alone, tmp_path)


def test_ray_survives_kills(
    folder: Path, alone: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    from ookd.fleet.on_ray import RayPool

    check(RayPool(WorkerPlan(SETTINGS, tmp_path, "cpu"), 2, None), folder, alone, tmp_path)
    assert not capsys.readouterr().out  # the place of `--json`


@contextmanager
def silent_server() -> Iterator[str]:
    """It takes connections and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/film.mp4"


def test_a_server_that_says_nothing_holds_nobody_up(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    noise = FleetTask(str(folder / "noise.mp4"))
    with silent_server() as url, closing(LocalPool(WorkerPlan(SETTINGS, tmp_path, "cpu"), 2)) as pool:
        outcome = run_fleet([FleetTask(url), noise], pool, retries=1, stall_seconds=1)
    assert outcome.failed[FleetTask(url)] == "no progress for 1 seconds"
    assert outcome.failed[noise].startswith("is not a video")  # a worker may need longer than that to begin


def test_workers_that_cannot_begin_are_said(folder: Path, tmp_path: Path) -> None:
    without_cores = WorkerPlan(SETTINGS, tmp_path, "cpu", threads=0)
    with (
        closing(LocalPool(without_cores, 1)) as pool,
        pytest.raises(UserError, match="end before they begin"),
    ):
        run_fleet([FleetTask(str(folder / "00.mp4"))], pool)


def test_the_command_does_what_is_missing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = tmp_path / "list.txt"
    names = [str(folder / name) for name in ("00.mp4", "01.mp4", "noise.mp4")]
    some.write_text("\n".join(names))
    command = [
        "fleet",
        str(some),
        "--out",
        str(tmp_path / "out"),
        "--device",
        "cpu",
        "--retries",
        "0",
        "--json",
    ]
    answers = []
    for expected in (2, 0):
        assert main(command) == 1  # one failed
        answers.append(json.loads(capsys.readouterr().out))
        assert (answers[-1]["done"], answers[-1]["kept"]) == (expected, 2 - expected)
    assert answers[0]["frames"] == 12
    assert answers[1]["frames"] == 0
    assert answers[1]["failed"] == {names[2]: "is not a video, or its beginning is damaged"}
    assert {Path(file).name for file in answers[0]["files"]} == {
        "videos.parquet",
        "tracks.parquet",
        "frames.parquet",
    }


def test_what_cannot_work_is_said_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list.txt").write_text("a.mp4")
    for options, message in (
        (["--model", "nonsense"], "nonsense"),
        (["--classes", "unicorn"], "no class unicorn"),
        (["--shard", "2/2"], "--shard 2/2"),
    ):
        assert main(["fleet", str(tmp_path / "list.txt"), "--out", str(tmp_path / "out"), *options]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
