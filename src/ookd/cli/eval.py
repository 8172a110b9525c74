"""`ookd eval`: scores predicted tracks and shows why points are lost."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import typer

from ookd.cores import usable_cores
from ookd.errors import UserError

if TYPE_CHECKING:
    from ookd.evaluation.report import Report

app = typer.Typer(rich_markup_mode=None, add_completion=False)

GT = typer.Option(..., "--gt", help="Annotation file or other data; repeat to join several: --gt A --gt B.")
SPLIT = typer.Option(None, help="Which split of --gt, as in train or val.")
PRED = typer.Option([], "--pred", help="Result list, or folder of `ookd predict`; repeat to join several.")
COMPARE = typer.Option(None, metavar="A B", help="Two result lists to compare instead of --pred.")
JSON = typer.Option(False, "--json", help="Print the answer as JSON on standard output.")
REPORT = typer.Option(None, metavar="FILE.html", help="Write a self-contained HTML report.")
FRAMES = typer.Option(None, help="Folder of the frames, for images in the report.")
OVERWRITE = typer.Option(False, "--overwrite", help="Replace the report.")
LENIENT = typer.Option(False, "--lenient", help="Skip and count entries that do not fit the ground truth.")
QUIRKS = typer.Option(
    False, "--official-quirks", help="Reproduce the defects of the official program exactly."
)
AGNOSTIC = typer.Option(False, "--class-agnostic", help="Score all classes as one.")
AGREEMENT = typer.Option(
    False,
    "--agreement",
    help="GT is a teacher's labels, PRED its student's tracks: how far they agree, by class.",
)
MIN_SCORE = typer.Option(0.3, help="Lowest score of predictions that count for HOTA, IDF1, MOTA and returns.")


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Evaluation creates many objects and few cycles: do not collect now, nor scan them later."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@app.command()
@_no_garbage_collection()
def evaluate(
    gt: list[Path] = GT,
    split: str | None = SPLIT,
    pred: list[Path] = PRED,
    compare: tuple[Path, Path] | None = COMPARE,
    as_json: bool = JSON,
    report: Path | None = REPORT,
    frames: Path | None = FRAMES,
    overwrite: bool = OVERWRITE,
    lenient: bool = LENIENT,
    official_quirks: bool = QUIRKS,
    class_agnostic: bool = AGNOSTIC,
    min_score: float = MIN_SCORE,
    agreement: bool = AGREEMENT,
) -> None:
    """Compute AP exactly as the official program, HOTA, returns, and the cost of each kind of error."""
    if bool(pred) == (compare is not None):
        raise UserError("give either --pred RESULTS or --compare A B")
    if compare is not None and report is not None:
        raise UserError("--report describes one result and cannot be combined with --compare")
    if agreement and (compare is not None or report is not None):
        raise UserError("--agreement is a report of its own; leave out --compare and --report")
    if report is not None and report.exists() and not overwrite:
        raise UserError(f"{report}: already exists; choose another name or add --overwrite")

    def score(results: list[Path]) -> Report:
        from ookd.evaluation.run import evaluate

        with _progress("comparing masks") as on_progress:
            found = evaluate(
                gt,
                results,
                split=split,
                lenient=lenient,
                official_quirks=official_quirks,
                class_agnostic=class_agnostic,
                min_score=min_score,
                processes=len(usable_cores()),
                on_progress=on_progress,
            )
        for line in found.dropped:
            print(f"dropped: {line}", file=sys.stderr)
        return found

    if compare is not None:
        _compare(score([compare[0]]), score([compare[1]]), (str(compare[0]), str(compare[1])), as_json)
        return
    found = score(pred)
    if agreement:
        _agree(found, as_json)
        return
    if report is not None:
        from ookd.reports.page import write_page

        write_page(found, report, frames)
    if as_json:
        _answer(found.as_dict())
    else:
        from rich.console import Console

        from ookd.reports.table import print_report

        print_report(found, Console(markup=False, highlight=False))


def _agree(report: Report, as_json: bool) -> None:
    from ookd.evaluation.agreement import agreement

    found = agreement(report)
    if as_json:
        _answer(found.as_dict())
    else:
        from rich.console import Console

        from ookd.reports.table import print_agreement

        print_agreement(found, Console(markup=False, highlight=False))


def _compare(a: Report, b: Report, names: tuple[str, str], as_json: bool) -> None:
    from ookd.evaluation.compare import compare

    with _progress("resampling") as on_progress:
        comparison = compare(a, b, on_progress=on_progress)
    if as_json:
        _answer(comparison.as_dict())
    else:
        from rich.console import Console

        from ookd.reports.table import print_comparison

        print_comparison(comparison, names, Console(markup=False, highlight=False))


@contextmanager
def _progress(what: str) -> Iterator[Callable[[float], None]]:
    """A bar on a terminal, otherwise a line every few seconds. It has no thread, so processes may fork."""
    terminal = sys.stderr.isatty()
    last = time.monotonic()

    def due() -> bool:
        nonlocal last
        if time.monotonic() - last < (0.1 if terminal else 10):
            return False
        last = time.monotonic()
        return True

    def line(share: float) -> None:
        if due():
            print(f"{what}: {share:.0%}", file=sys.stderr, flush=True)

    if not terminal:
        yield line
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, auto_refresh=False) as bar:
        task = bar.add_task(what, total=1.0)

        def move(share: float) -> None:
            if due():
                bar.update(task, completed=share, refresh=True)

        yield move


def _answer(document: Any) -> None:
    sys.stdout.buffer.write(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
