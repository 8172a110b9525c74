"""`ookd fleet`: many videos on the processes of a machine, on Ray, or as shards of an array job."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import typer

from ookd.cli.standard import say
from ookd.errors import UserError

if TYPE_CHECKING:
    from ookd.fleet.pool import FleetTask, WorkerPlan, WorkerPool
    from ookd.fleet.run import FleetOutcome

app = typer.Typer(rich_markup_mode=None)

LINE_SECONDS = 10.0  # between two progress lines
SHOWN = 5  # failures that the summary lists


@app.command()
def fleet(
    videos: str = typer.Argument(
        help="A folder, a glob, a text file with one path or URL per line, or a CSV or Parquet table."
    ),
    out: Path = typer.Option(
        ..., help="Folder for the results. Existing results are kept and not computed again."
    ),
    model: str = typer.Option("nano", help="A model's name, folder or hub id; see `ookd models`."),
    label: bool = typer.Option(
        False, "--label", help="Write confident tracks only, as `ookd label` finds them."
    ),
    classes: str = typer.Option("", help="Write only these classes, as in person,dog."),
    score: float | None = typer.Option(
        None, min=0, max=1, help="Lowest score of written objects. Default: 0; with --label 0.5."
    ),
    every: int = typer.Option(1, min=1, help="Process every N-th frame."),
    workers: int | None = typer.Option(
        None, min=1, help="Number of workers. Default: one per GPU, or as many as the cores allow."
    ),
    threads: int = typer.Option(1, min=1, help="Threads of each worker."),
    device: str = typer.Option("auto", help="auto, cpu or cuda. Workers are spread over the GPUs."),
    ray: str | None = typer.Option(
        None, help="Run on Ray: `local`, or the address of a cluster. Default: processes on this machine."
    ),
    gpus: float = typer.Option(0, min=0, help="With --ray: GPUs per worker; with 0.5 two workers share one."),
    shard: str | None = typer.Option(None, help="Process one part of the list, such as 0/8, for array jobs."),
    parts: float | None = typer.Option(
        None, min=1, help="Cut longer videos into parts of this many seconds."
    ),
    retries: int = typer.Option(2, min=0, help="How often a failed video is retried."),
    stall: float = typer.Option(300, min=1, help="Seconds without progress after which a worker is killed."),
    as_json: bool = typer.Option(False, "--json", help="The summary as JSON on standard output."),
) -> None:
    """Track the objects in many videos. A damaged video does not stop the others.

    A result is identified by the video's content and the settings. If the command is interrupted, run it
    again: it does what is missing. At the end all results are also in three tables in OUT: videos, tracks and
    frames (.parquet).
    """
    try:
        from ookd.fleet.parts import cut
        from ookd.fleet.pool import FleetTask, WorkerPlan
        from ookd.fleet.run import run_fleet
        from ookd.fleet.tables import write_tables
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed; pip install 'ookd[fleet]'") from None
    from ookd.fleet.listing import listed, shard_of

    if parts is not None and not isfinite(parts):
        raise UserError(f"--parts {parts}: should be a number of seconds")
    names = shard_of(listed(videos), shard)
    shown = tuple(name.strip() for name in classes.split(",") if name.strip()) or None
    settings = replace(_settings(model, device, shown, score, label), every=every)
    tasks = {video: cut(video, parts, every) if parts else [FleetTask(video)] for video in names}
    try:
        out.mkdir(parents=True, exist_ok=True)  # shared by all parts of an array job
    except OSError as error:
        raise UserError(f"{out}: cannot be the output folder: {error.strerror or error}") from None
    plan = WorkerPlan(settings, out.resolve(), device, threads)
    progress = _Progress(len(names))
    with closing(_pool(plan, workers, ray, gpus, sum(map(len, tasks.values())))) as pool:
        outcome = run_fleet(
            [task for of_video in tasks.values() for task in of_video],
            pool,
            retries=retries,
            stall_seconds=stall,
            on_change=progress.show,
        )
    keys, failed, kept = _joined(tasks, outcome, plan)
    suffix = f"-{shard.replace('/', '-of-')}" if shard else ""
    files = write_tables(out, names, keys, failed, suffix)
    summary = {
        "videos": len(names),
        "done": len(keys) - kept,
        "kept": kept,
        "failed": failed,
        "frames": outcome.frames,
        "seconds": round(outcome.seconds, 3),
        "fps": round(outcome.frames / outcome.seconds, 2) if outcome.seconds else 0.0,
        "workers_lost": outcome.deaths,
        "files": list(map(str, files)),
    }
    if as_json:
        print(orjson.dumps(summary, option=orjson.OPT_INDENT_2).decode())
    else:
        print(f"{len(names)} videos: {summary['done']} done, {kept} kept, {len(failed)} failed", end="; ")
        print(f"{outcome.frames} frames ({summary['fps']} frames/s)")
        for video, reason in list(failed.items())[:SHOWN]:
            say(f"  {video}: {reason}")
        if len(failed) > SHOWN:
            print(f"  and {len(failed) - SHOWN} more in {files[0].name}")
        say(f"written to {out}: videos, {', '.join(file.name for file in files)}")
    if failed:
        raise typer.Exit(1)


def _settings(
    model: str, device: str, classes: tuple[str, ...] | None, score: float | None, label: bool
) -> Any:
    """What results depend on. Loads the model once, so that its errors are reported before any work."""
    from ookd.api import load
    from ookd.config.tracker import OfflineConfig
    from ookd.deploy.folder import is_exported
    from ookd.fleet.process import FleetSettings

    if label and is_exported(model):
        raise UserError(f"model {model}: --label needs weights, not an exported model")
    tracker = load(model, "cpu" if device == "auto" else device)
    if not label or not isinstance(tracker.config, OfflineConfig):
        tracker.online()  # or an error
    tracker.filter(classes, score)
    fingerprint = f"{tracker.fingerprint()} {tracker.config.model_dump_json()} {list(tracker.names)}"
    least = score if score is not None else 0.5 if label else 0.0
    return FleetSettings(model, fingerprint, classes, least, label)


def _pool(plan: WorkerPlan, workers: int | None, ray: str | None, gpus: float, tasks: int) -> WorkerPool:
    if ray is not None:
        try:
            from ookd.fleet.on_ray import RayPool
        except ModuleNotFoundError:
            raise UserError("ray is not installed; pip install 'ookd[ray]'") from None
        return RayPool(plan, workers or _workers(plan, tasks), None if ray == "local" else ray, gpus)
    from ookd.fleet.local import LocalPool

    return LocalPool(plan, workers or _workers(plan, tasks))


def _workers(plan: WorkerPlan, tasks: int) -> int:
    """One per GPU, else as many as the cores allow; at most one per task."""
    import torch

    from ookd.cores import usable_cores

    gpus = torch.cuda.device_count() if plan.device in ("auto", "cuda") else 0
    return max(1, min(gpus or len(usable_cores()) // plan.threads, tasks))


def _joined(
    tasks: dict[str, list[FleetTask]], outcome: FleetOutcome, plan: WorkerPlan
) -> tuple[dict[str, str], dict[str, str], int]:
    """The key of each finished video, the reason for each failed one, and the number that existed before."""
    from ookd.fleet.parts import join

    keys, failed, kept = dict[str, str](), dict[str, str](), 0
    for video, of_video in tasks.items():
        reasons = [outcome.failed[task] for task in of_video if task in outcome.failed]
        if reasons:
            failed[video] = reasons[0]
            continue
        whole = outcome.done[of_video[0]]
        if len(of_video) > 1:
            whole = join(video, of_video, outcome.done, plan.settings, plan.out)
        keys[video], kept = whole.key, kept + whole.kept
    return keys, failed, kept


class _Progress:
    """A line every few seconds on standard error; on a terminal, a single line that is updated."""

    def __init__(self, videos: int) -> None:
        self._videos, self._last = videos, 0.0
        self._terminal = sys.stderr.isatty()

    def show(self, outcome: FleetOutcome) -> None:
        now, over = time.monotonic(), len(outcome.done) + len(outcome.failed)
        if now - self._last < (1.0 if self._terminal else LINE_SECONDS):
            return
        self._last = now
        new = sum(not one.kept for one in outcome.done.values())
        left = outcome.seconds * (self._videos - over) / new if new else 0.0
        text = f"{over} of {self._videos} videos, {len(outcome.failed)} failed, {outcome.frames} frames"
        text += f", {outcome.frames / max(outcome.seconds, 1e-9):.1f} frames/s"
        text += (
            f", {round(left) // 3600}:{round(left) // 60 % 60:02d}:{round(left) % 60:02d} left" if new else ""
        )
        print(
            f"\r{text}\033[K" if self._terminal else text,
            end="" if self._terminal else "\n",
            file=sys.stderr,
            flush=True,
        )
