"""`ookd distill`: train a student with an offline teacher."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ookd import config
from ookd.cli.own_data import load_recipe
from ookd.cli.progress import FrameProgress
from ookd.cli.train import (
    AsJson,
    Change,
    Changed,
    Data,
    Device,
    Export,
    Minutes,
    Out,
    Overwrite,
    Resume,
    RunOptions,
    Show,
    Verbose,
    check_export,
    run_folder,
    start,
)
from ookd.engine.launcher import is_main, process_count
from ookd.errors import UserError

app = typer.Typer(help="Train a student with an offline teacher.", rich_markup_mode=None)


@app.command()
def distill(
    recipe: Annotated[str, typer.Argument(help="Bundled recipe, or a .yaml file.")] = "nano-distill",
    teacher: Annotated[
        str | None, typer.Option(help="The teacher: a model's name, folder or hub id.")
    ] = None,
    data: Data = None,
    unlabelled: Annotated[
        Path | None,
        typer.Option(
            help="Videos without labels, in addition to --data; only the teacher's signals use them."
        ),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder for cached teacher answers; missing ones are computed first.")
    ] = None,
    only_cache: Annotated[bool, typer.Option("--only-cache", help="Fill --cache and stop.")] = False,
    out: Out = None,
    change: Change = None,
    resume: Resume = False,
    changed: Changed = False,
    overwrite: Overwrite = False,
    device: Device = "auto",
    minutes: Minutes = None,
    export: Export = None,
    show: Show = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Train a student with RECIPE and a teacher that sees whole clips.

    The teacher is an offline model, such as `ookd train nano-clip` makes, or a VidEoMT. It stays unchanged.
    With --cache it sees every video once, before training; otherwise it sees every clip in every step.
    """
    changes = list(change or ())
    if teacher is not None:
        changes.append(f"distill.teacher={json.dumps(teacher)}")
    if cache is not None:
        changes.append(f"distill.cache={json.dumps(str(cache))}")
    parsed = load_recipe(recipe, changes, data, unlabelled, hold_out=export is not None)
    if show:
        sys.stdout.write(config.describe(parsed))
        return
    check_export(parsed, export)
    folder = run_folder(parsed, out)
    if not only_cache and is_main():  # before the teacher is asked, which takes long
        from ookd.engine import begun

        begun.check(parsed, folder, resume, changed or (resume and minutes is not None), overwrite)
    if parsed.distill is not None and parsed.distill.cache is not None:
        fill_cache(parsed, device, as_json and only_cache)
    elif only_cache:
        raise UserError("--only-cache: name the folder with --cache")
    if not only_cache:
        start(
            parsed, folder, RunOptions(resume, changed, overwrite, device, minutes, verbose, as_json, export)
        )


def fill_cache(recipe: config.Recipe, device: str, as_json: bool) -> None:
    """Run the teacher on the videos that are not in the cache yet, and report the cache's size."""
    from ookd.distill.fill import FillPlan

    plan = FillPlan(recipe, device)
    for shard in plan.cache.damaged:
        print(f"warning: {plan.cache.folder / shard} is damaged and will be made again", file=sys.stderr)
    if plan.missing and process_count() > 1:
        raise UserError(
            f"{plan.cache.folder} lacks {plan.missing} videos: fill it in one process first (--only-cache)"
        )
    if plan.missing:
        with FrameProgress(plan.missing_frames) as progress:

            def on_video(frames: int, estimate: int) -> None:
                if not progress.done:
                    print(f"about {_size(estimate)} in total", file=sys.stderr)
                for _ in range(frames):
                    progress.step()

            plan.run(on_video)
    if as_json:
        print(
            json.dumps(
                {"cache": str(plan.cache.folder), "videos": len(plan.cache), "bytes": plan.cache.bytes}
            )
        )
    else:
        print(f"{plan.cache.folder}: {len(plan.cache)} videos, {_size(plan.cache.bytes)}", file=sys.stderr)


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
