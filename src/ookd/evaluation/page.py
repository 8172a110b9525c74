"""The report as one self-contained HTML page: no scripts, no fonts, no links to elsewhere."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ookd import __version__
from ookd.evaluation.ap import IOU_THRESHOLDS, RECALL_THRESHOLDS
from ookd.evaluation.report import Report
from ookd.evaluation.strips import worst_strips
from ookd.evaluation.table import CAUSE_NAMES, points

_STYLE = """
:root { --ink: #1d2330; --soft: #667085; --line: #e3e7ee; --paper: #fff; --bar: #3b6fd4; --pale: #c9d8f5; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ef; --soft: #98a1b3; --line: #2c3442; --paper: #12161d;
          --bar: #6f9bf0; --pale: #2c3f66; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
       max-width: 1080px; margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
p, figcaption, th { color: var(--soft); } p { margin: .2rem 0 .8rem; }
.tiles { display: flex; flex-wrap: wrap; gap: .6rem; }
.tile { border: 1px solid var(--line); border-radius: 8px; padding: .5rem .9rem; min-width: 5rem; }
.tile b { display: block; font-size: 1.35rem; } .tile span { color: var(--soft); font-size: .8rem; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 0 2.5rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .2rem .6rem; border-bottom: 1px solid var(--line); font-weight: normal; }
th:first-child, td:first-child { text-align: left; }
figure { margin: 0 0 1rem; } figure img { max-width: 100%; border-radius: 4px; }
svg { width: 100%; height: auto; } svg text { fill: var(--soft); font-size: 12px; }
.value { fill: var(--ink); }
"""
_COLOURS = ("#3b6fd4", "#e07b39", "#2f9e6e")


def write_page(report: Report, path: Path, frames: Path | None = None) -> None:
    """Write the page beside and rename it, so that it is whole or not there."""
    sections = [
        _head(report),
        '<div class="columns">',
        _section("Precision and recall", "Mean over classes.", _curves(report)),
        _section(
            "What mending one kind of error would add",
            "AP in points; in brackets how often it occurs at IoU 0.5.",
            _bars(
                [(CAUSE_NAMES[name], cause.ap, f" ({cause.count})") for name, cause in report.errors.items()]
            ),
        ),
        _section("AP by kind of track", "", _strata(report)),
        _section("Tracking", f"Predictions scored {report.min_score:g} or more.", _tracking(report)),
        "</div>",
        _section("Classes", "AP solid, AP50 pale; in brackets the number of tracks.", _classes(report)),
        _section(
            "Worst tracks", "Truth outlined green, the best prediction orange.", _strips(report, frames)
        ),
        _section("All classes in numbers", "", _class_table(report)),
    ]
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>ookd eval</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f"<body>{''.join(sections)}</body></html>"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".partial")
    beside.write_text(page, encoding="utf-8")
    beside.replace(path)


def _section(title: str, note: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2><p>{escape(note)}</p>{body}</section>" if body else ""


def _head(report: Report) -> str:
    dropped = f", {len(report.dropped)} entries dropped" if report.dropped else ""
    counts = f"{report.videos} videos, {report.tracks} tracks, {report.predictions} predictions{dropped}"
    rows = [[name, *map(points, split.values())] for name, split in report.splits.items()]
    splits = _section("Splits", "", _table([["", *report.summary], *rows])) if rows else ""
    return (
        f"<h1>Track evaluation</h1><p>{counts} &middot; ookd {__version__}</p>"
        f"{_tiles({name.replace('_', ' '): points(value) for name, value in report.summary.items()})}{splits}"
    )


def _tiles(values: dict[str, str]) -> str:
    tiles = "".join(
        f'<div class="tile"><b>{value}</b><span>{name}</span></div>' for name, value in values.items()
    )
    return f'<div class="tiles">{tiles}</div>'


def _tracking(report: Report) -> str:
    t = report.tracking
    shares = {"HOTA": t.hota, "DetA": t.deta, "AssA": t.assa, "LocA": t.loca, "IDF1": t.idf1, "MOTA": t.mota}
    return _tiles(
        {name: f"{100 * share:.1f}" for name, share in shares.items()} | {"switches": str(t.switches)}
    )


def _curves(report: Report) -> str:
    """PR curves at three IoU thresholds, mean over classes with truth."""
    precision = report.curves.precision[:, :, :, 0, -1]  # [T, R, K]
    known = precision[0, 0] > -1
    if not known.any():
        return ""
    width, height, left, bottom = 460, 300, 40, 28
    x = left + RECALL_THRESHOLDS * (width - left - 10)
    parts = []
    for tick in np.linspace(0, 1, 6):
        y = _height(tick, height, bottom)
        parts.append(f'<path d="M{left} {y:.1f}H{width - 10}" stroke="var(--line)"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:.1f}</text>')
        at = left + tick * (width - left - 10)
        parts.append(f'<text x="{at:.1f}" y="{height - 8}" text-anchor="middle">{tick:.1f}</text>')
    for colour, threshold in zip(_COLOURS, (0.5, 0.75, 0.9), strict=True):
        t = int(np.abs(IOU_THRESHOLDS - threshold).argmin())
        values = precision[t][:, known].mean(1)
        parts.append(_line(x, _height(values, height, bottom), colour))
        label_y = 18 + 16 * _COLOURS.index(colour)
        parts.append(
            f'<text x="{width - 16}" y="{label_y}" text-anchor="end" style="fill:{colour}">'
            f"IoU {threshold:g}: {100 * values.mean():.1f}</text>"
        )
    return f'<svg viewBox="0 0 {width} {height}" role="img">{"".join(parts)}</svg>'


def _height(value: NDArray[np.float64] | float, height: int, bottom: int) -> NDArray[np.float64]:
    return np.asarray(8 + (1 - np.asarray(value)) * (height - bottom - 8))


def _line(x: NDArray[np.float64], y: NDArray[np.float64], colour: str) -> str:
    places = " ".join(f"{px:.1f},{py:.1f}" for px, py in zip(x, y, strict=True))
    return f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="2"/>'


def _bars(rows: list[tuple[str, float, str]], behind: list[float] | None = None, most: float = 1e-9) -> str:
    """Horizontal bars of AP with their value and a note; `behind` are paler bars under them.

    The longest bar, or `most` if that is more, fills the width.
    """
    if not rows:
        return ""
    label, width, row = 190, 460, 24
    most = max([value for _, value, _ in rows] + (behind or []) + [most])
    unit = (width - label - 90) / most
    parts = []
    for i, (name, value, note) in enumerate(rows):
        y = i * row
        if behind is not None:
            parts.append(_bar(label, y, max(behind[i], 0) * unit, "var(--pale)"))
        parts.append(_bar(label, y, max(value, 0) * unit, "var(--bar)"))
        end = label + max(value, behind[i] if behind else 0, 0) * unit + 6
        said = f'<tspan class="value">{points(value)}</tspan>{escape(note)}'
        parts.append(f'<text x="{label - 8}" y="{y + 16}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<text x="{end:.1f}" y="{y + 16}">{said}</text>')
    return f'<svg viewBox="0 0 {width} {len(rows) * row}" role="img">{"".join(parts)}</svg>'


def _bar(x: float, y: float, width: float, colour: str) -> str:
    return f'<rect x="{x}" y="{y + 4}" width="{width:.1f}" height="16" rx="2" fill="{colour}"/>'


def _strata(report: Report) -> str:
    return _bars(
        [
            (f"{kind}: {name}", value, "")
            for kind, rows in report.strata.items()
            for name, value in rows.items()
            if name != "all" and value >= 0
        ]
    )


def _classes(report: Report) -> str:
    rows = sorted((row for row in report.per_class.values() if row.tracks), key=lambda row: -row.ap)
    most = max((row.ap50 for row in rows), default=0.0)
    halves = [rows[: (len(rows) + 1) // 2], rows[(len(rows) + 1) // 2 :]]
    columns = [
        _bars([(row.name, row.ap, f" ({row.tracks})") for row in half], [row.ap50 for row in half], most)
        for half in halves
        if half
    ]
    return (
        f'<div class="columns">{"".join(f"<div>{column}</div>" for column in columns)}</div>' if rows else ""
    )


def _class_table(report: Report) -> str:
    head = ["class", "frequency", "tracks", "predictions", "AP", "AP50", "AP75", "AR10", "HOTA", "IDF1"]
    rows = [
        [
            row.name,
            row.frequency,
            str(row.tracks),
            str(row.predictions),
            *map(points, (row.ap, row.ap50, row.ap75, row.ar10, row.tracking.hota, row.tracking.idf1)),
        ]
        for row in report.per_class.values()
        if row.tracks or row.predictions
    ]
    return _table([head, *rows])


def _table(rows: list[list[str]]) -> str:
    cells = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"


def _strips(report: Report, frames: Path | None) -> str:
    return "".join(
        f'<figure><img alt="" src="data:image/jpeg;base64,{strip.jpeg}">'
        f"<figcaption>{escape(strip.caption)}</figcaption></figure>"
        for strip in worst_strips(report, frames)
    )
