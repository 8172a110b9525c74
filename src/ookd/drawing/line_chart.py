"""Line charts of numbers over training steps: an SVG with a legend, as part of a page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from ookd.drawing.html import COLOURS

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 340, 150, 46, 12, 8, 22
POINTS = 240  # longer curves are averaged in groups
SMOOTH = 12  # points in the running mean of a noisy curve
FEW = 3  # with more noisy curves in a chart, only their running means are drawn

Curve = Sequence[tuple[float, float]]  # step, value


def line_chart(
    title: str, curves: Mapping[str, Curve], last: str = "{:.3g}", noisy: bool = False, floor: bool = True
) -> str:
    """One chart of one or several curves; nothing if no curve has a finite point.

    `last` is the format of the newest value. If the curves are `noisy`, their running mean is drawn bold.
    With `floor` the axis starts at 0.
    """
    thinned = {name: _thinned(curve) for name, curve in curves.items()}
    thinned = {name: curve for name, curve in thinned.items() if len(curve)}
    if not thinned:
        return ""
    values = np.concatenate([curve[:, 1] for curve in thinned.values()])
    steps = [step for curve in curves.values() for step, _ in curve]
    first, final = min(steps), max(steps)
    low, high, ticks = _axis(values, floor)

    def place(curve: NDArray[np.float64]) -> str:
        x = LEFT + (curve[:, 0] - first) / max(final - first, 1e-9) * (WIDTH - LEFT - RIGHT)
        y = TOP + (high - curve[:, 1].clip(low, high)) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return " ".join(f"{px:.1f},{py:.1f}" for px, py in zip(x, y, strict=True))

    parts = []
    for tick in ticks:
        y = TOP + (high - tick) / (high - low) * (HEIGHT - TOP - BOTTOM)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="var(--line)"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(tick)}</text>')
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 5}">{_short(first)}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 5}" text-anchor="end">{_short(final)}</text>')
    legend = [f"<b>{escape(title)}</b>"]
    for i, (name, curve) in enumerate(thinned.items()):
        colour = COLOURS[i % len(COLOURS)]
        line = f'stroke="{colour}" fill="none" stroke-linejoin="round" stroke-width'
        if len(curve) == 1:
            cx, _, cy = place(curve).partition(",")
            parts.append(f'<circle cx="{cx}" cy="{cy}" r="3" fill="{colour}"/>')
        elif noisy and len(curve) > 2 * SMOOTH:
            if len(thinned) <= FEW:
                parts.append(f'<polyline points="{place(curve)}" {line}="1" opacity="0.3"/>')
            parts.append(f'<polyline points="{place(_smooth(curve))}" {line}="2"/>')
        else:
            parts.append(f'<polyline points="{place(curve)}" {line}="2"/>')
        label = f"{name} " if len(thinned) > 1 else ""
        legend.append(
            f'<span style="color:{colour}">{escape(label)}{last.format(curves[name][-1][1])}</span>'
        )
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg>'
    return f'<figure class="chart"><figcaption>{" ".join(legend)}</figcaption>{svg}</figure>'


def _thinned(curve: Curve) -> NDArray[np.float64]:
    """[P, 2] the finite points, averaged in groups if there are too many."""
    points = np.array([point for point in curve if math.isfinite(point[1])], np.float64).reshape(-1, 2)
    if len(points) <= POINTS:
        return points
    size = -(-len(points) // POINTS)  # equal groups, so that all parts look equally noisy
    return np.stack([points[i : i + size].mean(0) for i in range(0, len(points), size)])


def _smooth(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    """The running mean over up to `SMOOTH` points."""
    total = np.concatenate([[0.0], curve[:, 1].cumsum()])
    end = np.arange(1, len(curve) + 1)
    begin = np.maximum(end - SMOOTH, 0)
    return np.stack([curve[:, 0], (total[end] - total[begin]) / (end - begin)], 1)


def _axis(values: NDArray[np.float64], floor: bool) -> tuple[float, float, list[float]]:
    """Ends and round ticks of an axis. Of many values, the highest few may lie outside."""
    low, high = float(values.min()), float(values.max())
    if len(values) > 100:  # the first steps of a run are often far above the rest
        high = min(high, 1.5 * float(np.percentile(values, 98)))
    if floor:
        low = min(low, 0.0)
    if high <= low:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / 3
    unit = 10 ** math.floor(math.log10(raw))
    step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= raw)
    low = math.floor(low / step) * step
    ticks = [low + i * step for i in range(math.ceil(round((high - low) / step, 6)) + 1)]
    return low, ticks[-1], ticks


def _short(value: float) -> str:
    """A tick label of few characters."""
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:.4g}" if not value or abs(value) >= 1e-3 else f"{value:.0e}"
