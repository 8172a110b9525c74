"""How far to trust a student that learned from labels of a teacher, as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import sqrt
from pathlib import Path

from ookd import __version__
from ookd.drawing import html
from ookd.drawing.html import Picture
from ookd.evaluation.agreement import PAIRED, Agreement
from ookd.reports.table import agreement_rows, percent

SURE = 1.96  # standard deviations of a 95 % interval


def write_agreement_page(
    path: Path, about: str, found: Agreement, export: Mapping[str, str], pictures: Sequence[Picture]
) -> None:
    """`about` says who labelled what; `export` are facts about the exported model, by name."""
    bars = [
        (name, row.found or 0.0, f"{percent(row.found)} ({_interval(row.both, row.teacher)})")
        for name, row in found.per_class.items()
        if row.teacher
    ]
    shares = {"found": found.all.found, "confirmed": found.all.confirmed, "overlap": found.all.overlap}
    sections = [
        f"<h1>How far to trust it</h1><p>{escape(about)} &middot; ookd {__version__}</p>",
        html.tiles({"held-out videos": str(found.videos), **{k: percent(v) for k, v in shares.items()}}),
        html.section(
            "What this means",
            "There is no ground truth here: where teacher and student make the same mistake, they agree. "
            "Look at some of these videos before you rely on the model.",
            "<p>A class of which little is found needs more labels or a larger student. If little is "
            "confirmed, look at what the student finds: the teacher may have missed it.</p>",
        ),
        html.section(
            "Found, by class",
            "Share of the teacher's tracks that the student has under the same class; in brackets, the 95 % "
            "interval. It is wide where held-out videos show few tracks: label more.",
            html.bars(bars, most=1.0),
        ),
        html.section(
            "Agreement, by class",
            f"Both: pairs of one class whose tubes overlap by at least {PAIRED:.0%}. Renamed: pairs of two "
            "classes. Confirmed: share of the student's tracks that the teacher has.",
            html.table(agreement_rows(found)),
        ),
        html.section("The exported model", "It is the student of this page.", html.tiles(dict(export))),
        html.section(
            "Samples",
            "Teacher above, student below. A student's track has the colour of the teacher's track that it "
            "covers best.",
            "".join(picture.figure() for picture in pictures),
        ),
    ]
    html.write_page(path, "How far to trust it - ookd", sections)


def _interval(part: int, whole: int) -> str:
    """The 95 % interval of a share in percent, after Wilson."""
    share, spread = part / whole, SURE**2 / whole
    middle = (share + spread / 2) / (1 + spread)
    reach = SURE * sqrt(share * (1 - share) / whole + spread / (4 * whole)) / (1 + spread)
    return f"{100 * max(0.0, middle - reach):.0f} to {100 * min(1.0, middle + reach):.0f}"
