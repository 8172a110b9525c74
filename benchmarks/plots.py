"""The plots of docs/results.md, drawn from the tables of the pages, so that figures are in one place."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt

DOCS = Path(__file__).parents[1] / "docs"
GAIN = re.compile(r"([+-][\d.]+) \[([+-][\d.]+), ([+-][\d.]+)\]")
PAGES = {
    "few-labels": "few labels",
    "rare-classes": "few unequal labels",
    "taught-student": "hard world, short training",
    "good-student": "student already good",
    "composites": "composites",
}
BLUE, GREY, ORANGE = "#3b6fd4", "#98a1b3", "#e07b39"


def table_rows(page: Path) -> Iterator[list[str]]:
    """The cells of every table row of a page."""
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("|"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def gains() -> list[tuple[str, float, float, float]]:
    """Every arm with an interval: its name, the gain over the student alone, and the interval's ends."""
    found = []
    for page, title in PAGES.items():
        for cells in table_rows(DOCS / "results" / f"{page}.md"):
            match = GAIN.fullmatch(cells[4]) if len(cells) > 10 else None
            if match and cells[0] != "teacher":
                gain, low, high = map(float, match.groups())
                found.append((f"{title}: {cells[0]}", gain, low, high))
    return found


def convergence() -> dict[str, list[tuple[float, float]]]:
    """AP with tuned constants over planned minutes, by seed."""
    curves: dict[str, list[tuple[float, float]]] = {"seed 0": [], "seed 1": []}
    for cells in table_rows(DOCS / "training.md"):
        match = re.fullmatch(r"[\d.]+ \(([\d.]+) / ([\d.]+)\)", cells[3]) if len(cells) == 4 else None
        if match:
            for name, ap in zip(curves, match.groups(), strict=True):
                curves[name].append((float(cells[0]), float(ap)))
    return curves


def save(figure: plt.Figure, name: str) -> None:
    figure.savefig(DOCS / "images" / name, bbox_inches="tight", metadata={"Date": None})


def options(parser: argparse.ArgumentParser) -> None:
    pass


def run(given: argparse.Namespace) -> None:
    plt.switch_backend("svg")
    plt.rcParams.update(
        {"svg.hashsalt": "ookd", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    )
    rows = gains()[::-1]
    figure, axes = plt.subplots(figsize=(7, 0.32 * len(rows) + 0.8))
    for y, (_, gain, low, high) in enumerate(rows):
        colour = BLUE if low > 0 else ORANGE if high < 0 else GREY
        axes.plot([low, high], [y, y], color=colour, linewidth=2)
        axes.plot(gain, y, "o", color=colour, markersize=5)
    axes.axvline(0, color="#667085", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
    axes.set_xlabel("track AP above the student alone")
    save(figure, "results-gains.svg")

    figure, axes = plt.subplots(figsize=(5, 3))
    for (name, points), colour in zip(convergence().items(), (BLUE, ORANGE), strict=True):
        axes.plot(*zip(*points, strict=True), "o-", color=colour, label=name, markersize=4)
    axes.set_xlabel("minutes planned, of one core")
    axes.set_ylabel("track AP, test")
    axes.legend(frameon=False)
    save(figure, "results-convergence.svg")
