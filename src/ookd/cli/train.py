"""`ookd train`: supervised training of a student or a teacher."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ookd import config
from ookd.cli.own_data import load_recipe
from ookd.engine import is_main
from ookd.errors import UserError
from ookd.locking import locked

app = typer.Typer(help="Train a teacher or a student.", rich_markup_mode=None)

# options that `train` and `distill` share
Out = Annotated[Path | None, typer.Option(help="Run folder; default runs/<name of the recipe>.")]
Data = Annotated[Path | None, typer.Option(help="Your own videos instead of the recipe's.")]
Change = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")]
Changed = Annotated[
    bool, typer.Option("--resume-changed", help="Continue the run in --out though the recipe is another one.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Delete the run in --out first.")]
Device = Annotated[str, typer.Option(help="auto or cpu.")]
Show = Annotated[bool, typer.Option("--show", help="Print the whole recipe, explained.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")]


@app.command()
def train(
    recipe: Annotated[str | None, typer.Argument(help="Bundled recipe, or a .yaml file.")] = None,
    data: Data = None,
    out: Out = None,
    change: Change = None,
    resume: Resume = False,
    changed: Changed = False,
    overwrite: Overwrite = False,
    device: Device = "auto",
    list_: Annotated[bool, typer.Option("--list", help="List the bundled recipes.")] = False,
    show: Show = False,
    page: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Write run.html of a run anew, and stop.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a teacher or a student as RECIPE says.

    --data is anything that `ookd data check` reads. Its train split is for training, its val split for
    validation.
    Ctrl-C, SIGTERM and SIGUSR1 save and stop; --resume continues to the same numbers.
    """
    if list_:
        _print_recipes()
        return
    if page is not None:
        from ookd.engine.page import write_run_page

        print(write_run_page(page))
        return
    if recipe is None:
        raise UserError("name a recipe; `ookd train --list` lists the bundled ones")
    parsed = load_recipe(recipe, change or (), data)
    if show:
        sys.stdout.write(config.describe(parsed))
    else:
        start(parsed, run_folder(parsed, out), resume, changed, overwrite, device, as_json)


def run_folder(recipe: config.Recipe, out: Path | None) -> Path:
    return out or Path("runs") / recipe.name


def start(
    recipe: config.Recipe,
    folder: Path,
    resume: bool,
    changed: bool,
    overwrite: bool,
    device: str,
    as_json: bool,
) -> None:
    """Begin or continue the run, unless there is one that nobody asked to touch."""
    from ookd.engine import begun
    from ookd.engine.loop import Interrupted
    from ookd.engine.run import run

    with locked(folder) if is_main() else nullcontext():
        if is_main():  # the others follow the first process, which makes the folder
            begun.check(recipe, folder, resume, changed, overwrite)
            if overwrite:
                begun.remove(folder)
        try:
            outcome = run(recipe, folder, cpu=device == "cpu")
        except Interrupted as stop:
            print(stop, file=sys.stderr)
            raise typer.Exit(128 + stop.number) from None
    if as_json and is_main():
        sys.stdout.write(json.dumps(outcome.as_dict()) + "\n")


def _print_recipes() -> None:
    table = Table("recipe", "what it is for", box=None)
    for name, about in config.bundled().items():
        table.add_row(name, about)
    Console().print(table)
