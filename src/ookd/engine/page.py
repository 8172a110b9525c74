"""The page of a run: curves, validation and samples, made from the files in its folder."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from ookd import untrusted
from ookd.drawing import html
from ookd.drawing.line_chart import Curve, line_chart
from ookd.engine.run_log import ENVIRONMENT, METRICS, RECIPE, read_lines
from ookd.errors import UserError
from ookd.reports.page import cause_bars, stratum_bars
from ookd.reports.table import points

PAGE, VALIDATION = "run.html", "validation.json"

# prefixes of the loss terms that describe distillation
TEACHER = {
    "kd_": "loss of each signal",
    "kept_": "teacher queries kept, and pairs for each instance",
    "exact_": "exactness of the teacher",
    "share_": "share of each signal in the gradient",
    "agree_": "agreement of student and teacher",
}
_STYLE = """
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: .4rem 1.6rem;
          align-items: end; }
.chart { margin: 0; } .chart figcaption { font-size: .8rem; } .chart b { color: var(--ink); }
pre { overflow-x: auto; font-size: .8rem; line-height: 1.35; }
summary { cursor: pointer; color: var(--soft); margin-top: 2rem; }
"""


def write_run_page(folder: Path) -> Path:
    """Write `run.html` from the files that the run has written to `folder`."""
    if not (folder / RECIPE).is_file():
        raise UserError(f"{folder}: not a run folder; it has no {RECIPE}")
    try:
        body = _body(folder)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        files = f"{RECIPE}, {METRICS}, {VALIDATION} or {ENVIRONMENT}"
        raise UserError(f"{folder}: {files} is damaged: {type(error).__name__} {error}") from None
    html.write_page(folder / PAGE, f"{folder.name} - ookd run", body, _STYLE)
    return folder / PAGE


def _body(folder: Path) -> list[str]:
    text = untrusted.read_text(folder / RECIPE)
    recipe = untrusted.parse_yaml(text, folder / RECIPE)
    lines = read_lines(folder / METRICS)
    steps = [line for line in lines if "loss" in line]
    vals = [line for line in lines if "val" in line]
    report = _json(folder / VALIDATION)
    environment = _json(folder / ENVIRONMENT)
    return [
        _head(recipe, environment, steps, vals),
        html.section("Validation", "In points.", _validations(vals)),
        html.section(
            "Losses", "Before weighting. The running mean of a noisy curve is bold.", _losses(steps)
        ),
        html.section("Teacher", "", _teacher(steps)),
        html.section("Training", "", _training(steps)),
        *_report(report),
        _details("Recipe", text),
        _details("Environment", "\n".join(f"{name}: {value}" for name, value in environment.items())),
    ]


def _head(
    recipe: dict[str, Any],
    environment: dict[str, Any],
    steps: list[dict[str, Any]],
    vals: list[dict[str, Any]],
) -> str:
    shown: dict[str, str] = {}
    if vals:
        best = max(vals, key=lambda line: line["val"]["AP"])
        last = vals[-1]["val"]
        shown |= {"AP": points(last["AP"]), f"best AP, step {best['step']}": points(best["val"]["AP"])}
        shown |= {name: points(last[name]) for name in ("AP50", "AP75", "HOTA")}
        shown["identity switches"] = str(last["switches"])
    if steps:
        last = steps[-1]
        shown[f"of {recipe['run']['steps']} steps"] = str(last["step"])
        if "total" in last["loss"]:
            shown["loss"] = f"{last['loss']['total']:.2f}"
        shown |= {"frames/s": f"{last['frames_per_s']:.0f}", "MB": f"{last['memory_mb']:.0f}"}
    revision = str(environment.get("revision") or "unknown")[:10]
    changed = " with changes" if environment.get("changed") else ""
    about = f"{recipe['about']} ookd {environment.get('ookd', '')}, revision {revision}{changed}."
    return f"<h1>{escape(recipe['name'])}</h1><p>{escape(about)}</p>{html.tiles(shown)}"


def _validations(vals: list[dict[str, Any]]) -> str:
    def curve(name: str) -> Curve:
        return [(line["step"], 100 * line["val"][name]) for line in vals if name in line["val"]]

    frequency = {name: curve(f"AP_{name}") for name in ("minor", "middle", "major")}
    return _charts(
        [
            line_chart("", {name: curve(name) for name in ("AP", "AP50", "AP75", "HOTA")}, "{:.1f}"),
            line_chart("AP of classes that are", frequency, "{:.1f}"),
            line_chart(
                "Identity switches",
                {"": [(line["step"], line["val"]["switches"]) for line in vals]},
                "{:.0f}",
            ),
        ]
    )


def _losses(steps: list[dict[str, Any]]) -> str:
    return _charts(
        line_chart(name, {name: _term(steps, name)}, noisy=True)
        for name in sorted(_terms(steps), key=lambda name: name != "total")
        if not name.startswith(tuple(TEACHER)) and not name[-1:].isdigit()
    )


def _teacher(steps: list[dict[str, Any]]) -> str:
    """The terms that describe distillation, a chart for each kind."""
    charts = []
    for start, title in TEACHER.items():
        names = [name for name in _terms(steps) if name.startswith(start)]
        curves = {name.removeprefix(start): _term(steps, name) for name in names}
        charts.append(line_chart(title, curves, noisy=True))
    return _charts(charts)


def _training(steps: list[dict[str, Any]]) -> str:
    def curve(name: str) -> Curve:
        return [(line["step"], line[name]) for line in steps if name in line]

    parts = sorted({name for line in steps for name in line if name.startswith("time_")})
    times: dict[str, Curve] = {
        part.removeprefix("time_"): [(step, 100 * share) for step, share in curve(part)] for part in parts
    }
    return _charts(
        [
            line_chart("learning rate", {"": curve("lr")}, "{:.2g}"),
            line_chart("norm of the gradient", {"": curve("grad_norm")}, noisy=True),
            line_chart("frames/s", {"": curve("frames_per_s")}, "{:.1f}"),
            line_chart("memory, MB", {"process": curve("memory_mb"), "GPU": curve("gpu_mb")}, "{:.0f}"),
            line_chart("% of time in", times, "{:.0f}"),
        ]
    )


def _report(report: dict[str, Any]) -> list[str]:
    """Sections about the last validation."""
    if not report:
        return []
    classes = [
        [row["name"], row["frequency"], str(row["tracks"]), *(points(row[key]) for key in ("ap", "ap50"))]
        for row in report["per_class"].values()
        if row["tracks"] or row["predictions"]
    ]
    pictures = "".join(html.Picture(**one).figure() for one in report["samples"])
    return [
        html.section(
            f"Samples at step {report['step']}",
            "Truth above, prediction below. A predicted track has the colour of the object it covers best.",
            pictures,
        ),
        '<div class="columns">',
        html.section(
            "What fixing one kind of error would add",
            "AP in points; in brackets, how often it occurs at IoU 0.5.",
            cause_bars(report["errors"]),
        ),
        html.section(
            "AP by kind of track",
            "Frequency: of the class in training.",
            stratum_bars(report["strata"]),
        ),
        "</div>",
        html.section("Classes", "", html.table([["class", "frequency", "tracks", "AP", "AP50"], *classes])),
    ]


def _terms(steps: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for line in steps for name in line["loss"]))


def _term(steps: list[dict[str, Any]], name: str) -> Curve:
    return [(line["step"], line["loss"][name]) for line in steps if name in line["loss"]]


def _charts(charts: Iterable[str]) -> str:
    drawn = "".join(charts)
    return f'<div class="charts">{drawn}</div>' if drawn else ""


def _details(title: str, text: str) -> str:
    return f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"


def _json(path: Path) -> dict[str, Any]:
    """The content of the file; empty if it does not exist yet."""
    return untrusted.read_json(path) if path.is_file() else {}
