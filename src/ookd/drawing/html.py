"""Parts of self-contained HTML pages: no scripts, no fonts, no external links."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ookd.files import write_file

STYLE = """
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
svg .value { fill: var(--ink); }
"""
COLOURS = ("#3b6fd4", "#e07b39", "#2f9e6e", "#b4539a", "#8a7a2e", "#4aa3b8", "#c2483f", "#7a6fd0")


def write_page(path: Path, title: str, sections: Iterable[str], style: str = "") -> None:
    """Write a page of these sections."""
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}{style}</style></head>'
        f"<body>{''.join(sections)}</body></html>"
    )
    write_file(path, page)


def section(title: str, note: str, body: str) -> str:
    """A titled part of the page; nothing if the body is empty."""
    return f"<section><h2>{escape(title)}</h2><p>{escape(note)}</p>{body}</section>" if body else ""


def tiles(values: dict[str, str]) -> str:
    """The most important numbers, by name."""
    shown = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for name, value in values.items()
    )
    return f'<div class="tiles">{shown}</div>'


def table(rows: Sequence[Sequence[str]]) -> str:
    cells = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"


@dataclass(frozen=True, slots=True)
class Picture:
    """An image with a caption, as a page or a JSON file holds it."""

    caption: str
    jpeg: str  # base64

    @staticmethod
    def of(caption: str, image: NDArray[np.uint8]) -> Picture:
        """From an RGB image [H, W, 3]."""
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 85])
        return Picture(caption, base64.b64encode(encoded.tobytes()).decode())

    def figure(self) -> str:
        return (
            f'<figure><img alt="" src="data:image/jpeg;base64,{self.jpeg}">'
            f"<figcaption>{escape(self.caption)}</figcaption></figure>"
        )


def bars(rows: list[tuple[str, float, str]], behind: list[float] | None = None, most: float = 0.0) -> str:
    """Horizontal bars, each with a name, a length and a label; `behind` holds the lengths of paler bars.

    The longest bar fills the width, or `most` does if that is longer.
    """
    if not rows:
        return ""
    label, width, row = 190, 460, 24
    most = max([value for _, value, _ in rows] + (behind or []) + [most]) or 1.0
    unit = (width - label - 90) / most
    parts = []
    for i, (name, value, note) in enumerate(rows):
        y = i * row
        if behind is not None:
            parts.append(_bar(label, y, max(behind[i], 0) * unit, "var(--pale)"))
        parts.append(_bar(label, y, max(value, 0) * unit, "var(--bar)"))
        end = label + max(value, behind[i] if behind else 0, 0) * unit + 6
        parts.append(f'<text x="{label - 8}" y="{y + 16}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<text x="{end:.1f}" y="{y + 16}" class="value">{escape(note)}</text>')
    return f'<svg viewBox="0 0 {width} {len(rows) * row}" role="img">{"".join(parts)}</svg>'


def _bar(x: float, y: float, width: float, colour: str) -> str:
    return f'<rect x="{x}" y="{y + 4}" width="{width:.1f}" height="16" rx="2" fill="{colour}"/>'
