"""The report on a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table

from ookd.evaluation.agreement import Agreement
from ookd.evaluation.compare import Comparison, Difference
from ookd.evaluation.report import Report
from ookd.evaluation.returns import GAP

CAUSE_NAMES = {
    "class": "wrong class",
    "duplicate": "duplicate",
    "identity": "identity switch, fragment",
    "mask": "poor mask",
    "class_and_mask": "wrong class and poor mask",
    "background": "background",
    "missed": "missed",
}
RETURN_NAMES = {
    "switches": "identity switches",
    "share_kept": "returns kept",
    "switches_at_returns": "switches at returns",
    "share_never_recovered": "never recovered",
    "frames_to_recover": "time to recover",
}


def points(value: float) -> str:
    """AP in points; a dash if nothing counts."""
    return "-" if value < 0 else f"{100 * value:.1f}"


def print_report(report: Report, console: Console) -> None:
    """Summary, tracking, strata, errors and classes."""
    dropped = f", {len(report.dropped)} dropped" if report.dropped else ""
    console.print(
        f"{report.videos} videos, {report.tracks} tracks, {report.predictions} predictions{dropped}"
    )
    console.print(_summary(report))
    console.print(_tracking(report))
    console.print(_returns(report))
    console.print(_strata(report))
    console.print(_errors(report))
    console.print(_classes(report))


def print_agreement(found: Agreement, console: Console) -> None:
    """How far a teacher and its student agree, by class."""
    columns, *rows = agreement_rows(found)
    table = _table(f"Agreement on {found.videos} videos", *columns)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def agreement_rows(found: Agreement) -> list[list[str]]:
    """The table of an agreement, its heading first; without classes that neither has."""
    rows = [["class", "teacher", "student", "both", "renamed", "found", "confirmed", "overlap"]]
    for name, row in {"all": found.all, **found.per_class}.items():
        if row.teacher or row.student:
            numbers = (row.teacher, row.student, row.both, row.renamed)
            shares = (row.found, row.confirmed, row.overlap)
            rows.append([name, *map(str, numbers), *map(percent, shares)])
    return rows


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def _table(title: str, *headers: str) -> Table:
    """Words left, numbers right, narrow enough for 80 columns."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for header in headers:
        table.add_column(header, justify="left" if header in ("", *_WORDS) else "right")
    return table


_WORDS = ("kind", "cause", "class", "frequency", "split")


def _summary(report: Report) -> RenderableType:
    rows = {"all": report.summary} if not report.splits else {"all": report.summary, **report.splits}
    tables = []
    for names in (list(report.summary)[:6], list(report.summary)[6:]):
        table = _table("", "split" if report.splits else "", *names)
        for name, summary in rows.items():
            table.add_row(name, *(points(summary[column]) for column in names))
        tables.append(table)
    return Group(*tables)


def _tracking(report: Report) -> RenderableType:
    title = f"Tracking, scores of {report.min_score:g} or more"
    table = _table(title, "HOTA", "DetA", "AssA", "LocA", "IDF1", "MOTA", "switches")
    t = report.tracking
    shares = (t.hota, t.deta, t.assa, t.loca, t.idf1, t.mota)
    table.add_row(*(f"{100 * share:.1f}" for share in shares), str(t.switches))
    return table


def return_cells(report: Report) -> dict[str, str]:
    """Returns and lost ids by name, in words where there is nothing to count."""
    r = report.returns
    kept, never, wait = "no returns", "no id lost", "no id recovered"
    if r.share_kept is not None:
        kept = f"{points(r.share_kept)} % ({r.kept} of {r.returns})"
    if r.share_never_recovered is not None:
        never = f"{points(r.share_never_recovered)} % ({r.lost - r.recovered} of {r.lost})"
    if r.frames_to_recover is not None:
        wait = f"{r.frames_to_recover:g} frame{'' if r.frames_to_recover == 1 else 's'}"
    return {
        RETURN_NAMES["share_kept"]: kept,
        RETURN_NAMES["switches_at_returns"]: f"{r.switches_at_returns} of {report.tracking.switches}",
        RETURN_NAMES["frames_to_recover"]: wait,
        RETURN_NAMES["share_never_recovered"]: never,
    }


def _returns(report: Report) -> RenderableType:
    cells = return_cells(report)
    table = _table(f"Returns after {GAP} or more frames, and lost ids", *cells)
    table.add_row(*cells.values())
    return table


def _strata(report: Report) -> RenderableType:
    table = _table("AP by kind of track", "kind", "", "AP")
    for kind, rows in report.strata.items():
        for name, value in rows.items():
            if name != "all" and value >= 0:
                table.add_row(kind, name, points(value))
    return table


def _errors(report: Report) -> RenderableType:
    table = _table("What fixing one kind of error would add", "cause", "AP", "AP50", "number")
    for name, cause in report.errors.items():
        table.add_row(
            CAUSE_NAMES[name], f"{100 * cause.ap:+.1f}", f"{100 * cause.ap50:+.1f}", str(cause.count)
        )
    return table


def _classes(report: Report) -> RenderableType:
    columns = ("class", "frequency", "tracks", "found", "AP", "AP50", "AP75", "AR10", "HOTA", "IDF1")
    table = _table("Classes", *columns)
    for row in report.per_class.values():
        if row.tracks or row.predictions:
            shares = map(points, (row.ap, row.ap50, row.ap75, row.ar10, row.tracking.hota, row.tracking.idf1))
            table.add_row(row.name, row.frequency, str(row.tracks), str(row.predictions), *shares)
    return table


def print_comparison(comparison: Comparison, names: tuple[str, str], console: Console) -> None:
    """Both results side by side with the interval of their difference."""
    console.print(
        f"A: {names[0]}\nB: {names[1]}\n"
        f"{comparison.videos} videos, {comparison.resamplings} resamplings; * the interval excludes 0"
    )
    overall = [("AP", comparison.ap), ("AP50", comparison.ap50)]
    causes = [(CAUSE_NAMES[name], difference) for name, difference in comparison.errors.items()]
    identity = comparison.returns.items()
    shares = [(RETURN_NAMES[name], d) for name, d in identity if name.startswith("share")]
    numbers = [(RETURN_NAMES[name], d) for name, d in identity if not name.startswith("share")]
    console.print(
        Group(
            _differences("Score", overall),
            _differences("AP lost to", causes),
            _differences("AP of class", comparison.per_class.items()),
            _differences("Identity in %", shares),
            _differences("Identity in numbers", numbers, 1),
        )
    )


def _differences(
    title: str, rows: Iterable[tuple[str, Difference | None]], unit: float = 100
) -> RenderableType:
    table = _table("", title, "A", "B", "A - B", "95 % interval", "")
    table.columns[0].justify = "left"
    for name, d in rows:
        if d is None:  # A or B has nothing to count
            table.add_row(name, *"----", "")
            continue
        table.add_row(
            name,
            f"{unit * d.a:.1f}",
            f"{unit * d.b:.1f}",
            f"{unit * d.difference:+.1f}",
            f"{unit * d.low:+.1f} .. {unit * d.high:+.1f}",
            "*" if d.certain else "",
        )
    return table
