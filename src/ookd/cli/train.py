"""`ookd train`: supervised training of a student or a teacher."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from ookd import config
from ookd.cli.export import require_packages
from ookd.cli.own_data import load_recipe
from ookd.cli.progress import FrameProgress
from ookd.cli.standard import say
from ookd.deploy.folder import Kind
from ookd.engine.launcher import is_main, process_count
from ookd.errors import UserError
from ookd.locking import locked

app = typer.Typer(help="Train a teacher or a student.", rich_markup_mode=None)

YEAR = 366 * 24 * 60  # minutes

# options that `train` and `distill` share
Out = Annotated[Path | None, typer.Option(help="Run folder; default runs/<name of the recipe>.")]
Data = Annotated[Path | None, typer.Option(help="Your own videos instead of the recipe's.")]
Change = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")]
Changed = Annotated[
    bool, typer.Option("--resume-changed", help="Continue the run in --out with a changed recipe.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Delete the run in --out first.")]
Device = Annotated[Literal["auto", "cpu"], typer.Option(help="auto trains on the GPUs, if there are any.")]
Minutes = Annotated[
    float | None,
    typer.Option(
        min=0, max=YEAR, help="Train as many steps as fit into this time, instead of run.steps; up to a year."
    ),
]
Export = Annotated[
    Kind | None,
    typer.Option(
        help="Also write OUT/exported, and OUT/agreement.html: how far the model agrees with the labels of "
        "videos that it did not learn from. Without a val split, every tenth of --data is held out."
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show every term of the loss.")]
Show = Annotated[bool, typer.Option("--show", help="Print the complete recipe with explanations.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run is started or continued."""

    resume: bool
    changed: bool
    overwrite: bool
    device: str
    minutes: float | None
    verbose: bool
    as_json: bool
    export: Kind | None


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
    minutes: Minutes = None,
    export: Export = None,
    list_: Annotated[bool, typer.Option("--list", help="List the bundled recipes.")] = False,
    show: Show = False,
    page: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Write run.html of a run again, and stop.")
    ] = None,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Train a teacher or a student with RECIPE.

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
    parsed = load_recipe(recipe, change or (), data, hold_out=export is not None)
    if show:
        sys.stdout.write(config.describe(parsed))
    else:
        check_export(parsed, export)
        options = RunOptions(resume, changed, overwrite, device, minutes, verbose, as_json, export)
        start(parsed, run_folder(parsed, out), options)


def check_export(recipe: config.Recipe, kind: Kind | None) -> None:
    """Raise before training if there is nothing to export for `kind`, or nothing to report on."""
    if kind is not None:
        from ookd.engine.exported import check

        require_packages(kind, "fp32")
        check(recipe)


def run_folder(recipe: config.Recipe, out: Path | None) -> Path:
    return out or Path("runs") / recipe.name


def start(recipe: config.Recipe, folder: Path, options: RunOptions) -> None:
    """Start or continue the run. An existing run is touched only if the options say so."""
    from ookd.engine import begun
    from ookd.engine.loop import Interrupted
    from ookd.engine.page import PAGE
    from ookd.engine.run import AGREEMENT, EXPORTED, run

    with locked(folder) if is_main() else nullcontext():
        if options.minutes is not None:
            recipe = _planned(recipe, folder, options, options.minutes)
        if is_main():  # the others follow the first process, which makes the folder
            begun.check(recipe, folder, options.resume, options.changed, options.overwrite)
            if options.overwrite:
                begun.remove(folder)
        try:
            outcome = run(recipe, folder, options.device == "cpu", options.verbose)
        except Interrupted as stop:
            print(stop, file=sys.stderr)
            raise typer.Exit(128 + stop.number) from None
        answer = outcome.as_dict()
        if is_main() and options.export is not None:
            from ookd.engine.exported import export_run

            with FrameProgress(None) as progress:
                answer["agreement"] = export_run(recipe, folder, options.export, progress.step)
    if not is_main():
        return
    if options.as_json:
        sys.stdout.write(json.dumps(answer) + "\n")
    else:
        say(f"{outcome.model}: the model after {outcome.steps} steps")
        say(f"{folder / PAGE}: the page of the run, with its curves and validation")
        if options.export is not None:
            say(f"{folder / EXPORTED}: the model for {options.export}")
            say(f"{folder / AGREEMENT}.html: how far to trust it, by class")
            folder = folder / EXPORTED
        say(f"Track with it: ookd track VIDEO --model {folder}")


def _planned(recipe: config.Recipe, folder: Path, options: RunOptions, minutes: float) -> config.Recipe:
    """The recipe with the steps that fit into the time, or that did when its run started."""
    from ookd.engine import begun, budget
    from ookd.engine.run_log import RECIPE

    if process_count() > 1:
        raise UserError("--minutes plans runs of one process; set run.steps for several")
    saved = folder / RECIPE
    if saved.exists() and (options.resume or options.changed):
        return budget.as_begun(recipe, config.load(str(saved)))
    begun.check(recipe, folder, overwrite=options.overwrite)
    recipe = budget.within(recipe, minutes, options.device == "cpu")
    print(f"{minutes:g} minutes: {recipe.run.steps} steps", file=sys.stderr)
    return recipe


def _print_recipes() -> None:
    table = Table("recipe", "what it is for", box=None)
    for name, about in config.bundled().items():
        table.add_row(name, about)
    Console().print(table)
