"""`ookd distill`: training of a student with an offline teacher beside it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ookd import config
from ookd.cli.train import AsJson, Change, Device, Out, Overwrite, Resume, Show, start

app = typer.Typer(help="Train a student with an offline teacher.", rich_markup_mode=None)


@app.command()
def distill(
    recipe: Annotated[str, typer.Argument(help="Bundled recipe, or a .yaml file.")] = "nano-distill",
    teacher: Annotated[Path | None, typer.Option(help="Model folder of the teacher.")] = None,
    out: Out = None,
    change: Change = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    device: Device = "auto",
    show: Show = False,
    as_json: AsJson = False,
) -> None:
    """Train a student as RECIPE says, with what TEACHER knows of the frames around.

    The teacher is an offline model: `ookd train nano-clip` makes one. It is not changed.
    """
    changes = list(change or ())
    if teacher is not None:
        changes.append(f"distill.teacher={json.dumps(str(teacher))}")
    parsed = config.load(recipe, changes)
    if show:
        sys.stdout.write(config.describe(parsed))
    else:
        start(parsed, out, resume, overwrite, device, as_json)
