"""The command line: one module per command, imported only when that command is used."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import typer
import typer.core
import typer.main

from ookd import __version__, limits
from ookd.cli import standard
from ookd.cores import MOST_THREADS, thread_count, use_threads
from ookd.errors import UserError, printable

# command -> one line of help; each is the Typer application `app` of the module `ookd.cli.<command>`.
COMMANDS = {
    "demo": "Track an unseen scene with the bundled model.",
    "track": "Follow objects through a video, live or recorded.",
    "serve": "Track live and recorded video in a browser, or over HTTP.",
    "fleet": "Track many videos on processes, on Ray, or as shards of an array job.",
    "train": "Train a teacher or a student.",
    "distill": "Train a student with an offline teacher.",
    "data": "Check, describe, convert, generate and preview data.",
    "models": "List the models that have a name.",
    "weights": "Convert published weights into model folders.",
    "eval": "Score predicted tracks and show why points are lost.",
    "predict": "Run a model over a data set; write benchmark results.",
    "export": "Export a model to OpenVINO or ONNX Runtime.",
    "bench": "Measure how fast a model tracks on this machine.",
    "label": "Annotate videos with a model; confident tracks become training data.",
    "review": "Review and correct labels on a local page.",
    "tune": "Search the tracker constants of a model on a tuning set.",
}


class LazyCommands(typer.core.TyperGroup):
    """Lists all commands, but imports a command's module only to run it or to show its help."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.commands: Any = dict.fromkeys(COMMANDS)  # for suggestions after a typing error

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        command = typer.main.get_command(import_module(f"ookd.cli.{cmd_name}").app)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


app = typer.Typer(
    cls=LazyCommands,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Online video instance segmentation, taught by offline models.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
    threads: int | None = typer.Option(
        None,
        min=1,
        max=MOST_THREADS,
        help="Number of computing threads, before the command; default: one per core.",
    ),
) -> None:
    if threads is not None:
        use_threads(threads)
    thread_count()  # what the environment says must be numbers, whether it is used or not
    limits.check_environment()


def main(arguments: list[str] | None = None) -> int:
    """Run the command line. Every error is one line; bad input returns exit code 2.

    With OOKD_DEBUG=1 in the environment, an unexpected error shows its traceback.
    """
    # Without this, OpenMP's waiting threads keep their cores busy and slow down other programs. OpenMP reads
    # it when torch loads it.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    standard.prepare()
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        code = 2
    except BrokenPipeError:  # the reader closed the pipe
        code = 1
    except Exception as error:
        if os.environ.get("OOKD_DEBUG") == "1":
            raise
        if isinstance(error, UnicodeEncodeError) and not error.encoding.startswith("utf"):
            what = f"{error.object!a:.100} cannot be encoded in {error.encoding}, the encoding of this system"
            print(f"error: {what}; set PYTHONUTF8=1", file=sys.stderr)
            code = 2
        else:
            what = printable(" ".join(f"{type(error).__name__}: {error}".split()))
            print(f"error: {what:.500} (unexpected; OOKD_DEBUG=1 shows where)", file=sys.stderr)
            code = 1
    try:
        sys.stdout.flush()
    except (OSError, UserError):
        standard.discard()
    return code


def _run(arguments: list[str] | None) -> int:
    try:
        app(args=arguments)
    except SystemExit as stop:
        if isinstance(stop.__context__, typer.Abort):  # Ctrl-C
            return 130
        return stop.code if isinstance(stop.code, int) else 0
    return 0
