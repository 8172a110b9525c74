"""The report of an evaluation as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ookd import __version__
from ookd.drawing import html
from ookd.evaluation.ap import IOU_THRESHOLDS, RECALL_THRESHOLDS
from ookd.evaluation.report import Report
from ookd.evaluation.returns import GAP
from ookd.reports.strips import worst_strips
from ookd.reports.table import CAUSE_NAMES, points, return_cells


def write_page(report: Report, path: str | Path, frames: str | Path | None = None) -> None:
    """Write the page. `frames` is the folder of the videos' frames, for pictures of the worst tracks."""
    plain = report.as_dict()
    frames = None if frames is None else Path(frames)
    sections = [
        _head(report),
        '<div class="columns">',
        html.section("Precision and recall", "Mean over classes.", _curves(report)),
        html.section(
            "What fixing one kind of error would add",
            "AP in points; in brackets, how often it occurs at IoU 0.5.",
            cause_bars(plain["errors"]),
        ),
        html.section("AP by kind of track", "", stratum_bars(plain["strata"])),
        html.section(
            "Tracking", f"Predictions with a score of at least {report.min_score:g}.", _tracking(report)
        ),
        html.section(
            "Returns and lost ids",
            f"A return is an object found again after {GAP} or more frames without it.",
            html.tiles(return_cells(report)),
        ),
        "</div>",
        html.section("Classes", "AP solid, AP50 pale; in brackets, the number of tracks.", _classes(report)),
        html.section(
            "Worst tracks",
            "Truth outlined green, the best prediction orange.",
            _strips(report, None if frames is None else Path(frames)),
        ),
        html.section("All classes in numbers", "", _class_table(report)),
    ]
    html.write_page(Path(path), "ookd eval", sections)


def _head(report: Report) -> str:
    dropped = f", {len(report.dropped)} entries dropped" if report.dropped else ""
    counts = f"{report.videos} videos, {report.tracks} tracks, {report.predictions} predictions{dropped}"
    rows = [[name, *map(points, split.values())] for name, split in report.splits.items()]
    splits = html.section("Splits", "", html.table([["", *report.summary], *rows])) if rows else ""
    summary = html.tiles({name.replace("_", " "): points(value) for name, value in report.summary.items()})
    return f"<h1>Track evaluation</h1><p>{counts} &middot; ookd {__version__}</p>{summary}{splits}"


def _tracking(report: Report) -> str:
    t = report.tracking
    shares = {"HOTA": t.hota, "DetA": t.deta, "AssA": t.assa, "LocA": t.loca, "IDF1": t.idf1, "MOTA": t.mota}
    return html.tiles(
        {name: f"{100 * share:.1f}" for name, share in shares.items()} | {"switches": str(t.switches)}
    )


def _curves(report: Report) -> str:
    """Precision-recall curves at three IoU thresholds, averaged over the classes with truth."""
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
    for colour, threshold in zip(html.COLOURS[:3], (0.5, 0.75, 0.9), strict=True):
        t = int(np.abs(IOU_THRESHOLDS - threshold).argmin())
        values = precision[t][:, known].mean(1)
        parts.append(_line(x, _height(values, height, bottom), colour))
        label_y = 18 + 16 * html.COLOURS.index(colour)
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


def cause_bars(errors: Mapping[str, Mapping[str, float]]) -> str:
    """What fixing each cause would add, from the `errors` of `Report.as_dict`."""
    return html.bars(
        [
            (CAUSE_NAMES[name], cause["ap"], f"{points(cause['ap'])} ({cause['count']})")
            for name, cause in errors.items()
        ]
    )


def stratum_bars(strata: Mapping[str, Mapping[str, float]]) -> str:
    """AP by kind of track, from the `strata` of `Report.as_dict`."""
    return html.bars(
        [
            (f"{kind}: {name}", value, points(value))
            for kind, rows in strata.items()
            for name, value in rows.items()
            if name != "all" and value >= 0
        ]
    )


def _classes(report: Report) -> str:
    rows = sorted((row for row in report.per_class.values() if row.tracks), key=lambda row: -row.ap)
    most = max((row.ap50 for row in rows), default=0.0)
    halves = [rows[: (len(rows) + 1) // 2], rows[(len(rows) + 1) // 2 :]]
    columns = [
        html.bars(
            [(row.name, row.ap, f"{points(row.ap)} ({row.tracks})") for row in half],
            [row.ap50 for row in half],
            most,
        )
        for half in halves
        if half
    ]
    return (
        f'<div class="columns">{"".join(f"<div>{column}</div>" for column in columns)}</div>' if rows else ""
    )


def _class_table(report: Report) -> str:
    head = ["class", "frequency", "tracks", "predictions", "AP", "AP50", "AP75", "AR10", "HOTA", "IDF1"]
    head += ["returns", "kept"]
    rows = [
        [
            row.name,
            row.frequency,
            str(row.tracks),
            str(row.predictions),
            *map(points, (row.ap, row.ap50, row.ap75, row.ar10, row.tracking.hota, row.tracking.idf1)),
            str(row.returns.returns),
            str(row.returns.kept),
        ]
        for row in report.per_class.values()
        if row.tracks or row.predictions
    ]
    return html.table([head, *rows])


def _strips(report: Report, frames: Path | None) -> str:
    return "".join(strip.figure() for strip in worst_strips(report, None if frames is None else Path(frames)))
