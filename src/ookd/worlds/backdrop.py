"""Backgrounds with sky, ground and clutter, and obstacles in the foreground."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ookd.worlds.layers import Image
from ookd.worlds.shapes import Colour, K, ellipse
from ookd.worlds.texture import Field, fractal

MARGIN = 0.16  # of the frame height, on every side, for the camera to drift over


@dataclass(frozen=True)
class Place:
    """Colours of a kind of place: sky above the horizon, far and near ground, relief of the ground."""

    sky: tuple[Colour, Colour] | None
    far: Colour
    near: Colour
    relief: float
    tiles: bool = False


PLACES: dict[str, Place] = {
    "meadow": Place(((120, 165, 215), (205, 215, 220)), (120, 140, 90), (78, 105, 52), 14),
    "beach": Place(((140, 180, 215), (215, 220, 215)), (190, 175, 140), (205, 185, 150), 11),
    "street": Place(((165, 170, 178), (205, 205, 202)), (110, 108, 105), (128, 126, 124), 9, tiles=True),
    "snow": Place(((150, 170, 200), (210, 212, 218)), (200, 205, 212), (180, 188, 200), 9),
    "dusk": Place(((75, 70, 105), (190, 130, 105)), (80, 70, 68), (62, 58, 56), 11),
    "floor": Place(None, (150, 125, 98), (165, 135, 105), 7, tiles=True),
    "sea bed": Place(None, (45, 92, 118), (90, 125, 118), 16),
    "forest": Place(None, (70, 80, 55), (95, 88, 60), 18),
}


@dataclass(frozen=True)
class Backdrop:
    """A painted place, larger than the frame by MARGIN on each side."""

    image: Image
    colour: Field  # [3] the mean, which camouflaged objects approach


def _clutter(canvas: Image, rng: np.random.Generator, count: int, horizon: float, height: int) -> None:
    """Stones, tufts and leaves: shaded blobs that are not objects."""
    tall, wide = canvas.shape[:2]
    for _ in range(count):
        y = float(rng.uniform(horizon, 1.0)) * tall
        size = height * float(rng.uniform(0.02, 0.09)) * (0.4 + y / tall)
        x = float(rng.uniform(0, wide))
        tint = canvas[min(int(y), tall - 1), min(int(x), wide - 1)] * rng.uniform(0.5, 1.4)
        tint = np.clip(tint + rng.uniform(-25, 25) + rng.uniform(-22, 22, 3), 0, 255)
        blob = ellipse(0, 0, size, size * float(rng.uniform(0.4, 1)), float(rng.uniform(0, 3)))
        blob *= 1 + 0.3 * np.sin(np.arange(K) * 2 * np.pi / K * rng.integers(2, 6) + y)[:, None].astype(
            np.float32
        )
        for shift, shade in ((0.12, 0.55), (0.0, 0.85), (-0.12, 1.0)):
            ring = (blob * (1 - abs(min(shift, 0)) * 3) + (x + shift * size, y + shift * size)) * 16
            cv2.fillPoly(canvas, [ring.astype(np.int32)], (tint * shade).tolist(), cv2.LINE_AA, 4)


def backdrop(
    rng: np.random.Generator, height: int, width: int, horizon: float, appearance: float
) -> Backdrop:
    """Paint one place; `horizon` in frame heights, 0 or less if the ground fills the view."""
    edge = round(MARGIN * height)
    tall, wide = height + 2 * edge, width + 2 * edge
    fitting = [place for place in PLACES.values() if (place.sky is not None) == (horizon > 0)]
    place = fitting[int(rng.integers(len(fitting)))]
    line = round(horizon * height) + edge if place.sky else 0
    rows = _fade(place.far, place.near, tall - line)  # [tall, 3]
    relief = _ground_relief(rng, place, tall - line, wide) * (0.7 + 0.6 * appearance)
    if place.sky:
        rows = np.concatenate([_fade(*place.sky, line), rows])
        clouds = np.clip(fractal(rng, line, wide, 60, 3), 0, 2) * 13
        relief = np.concatenate([clouds, relief])
    tinted = np.clip(rows + rng.uniform(-18, 18, 3), 0, 255).astype(np.uint8)
    canvas: Image = np.repeat(tinted[:, None], wide, 1)
    if place.sky:
        _hills(canvas, rng, line, height)
    canvas = np.asarray(cv2.add(canvas, cv2.merge([relief] * 3), dtype=cv2.CV_8U), np.uint8)
    _clutter(canvas, rng, int(rng.poisson(3 + 22 * appearance)), line / tall, height)
    return Backdrop(canvas, np.array(cv2.mean(canvas)[:3], np.float32))


def _fade(top: Colour, bottom: Colour, height: int) -> Field:
    return np.linspace(top, bottom, height, dtype=np.float32)


def _hills(canvas: Image, rng: np.random.Generator, line: int, height: int) -> None:
    """A far ridge on the horizon, in the haze of sky and ground."""
    wide = canvas.shape[1]
    x = np.linspace(0, wide, 40)
    ridge = fractal(rng, 4, 40, 14, 3)[0]
    y = np.minimum(line - (0.07 + 0.04 * ridge) * height, line)
    outline = np.concatenate([np.stack([x, y], -1), [[wide, line], [0, line]]])
    haze = 0.45 * canvas[line - 1, 0].astype(float) + 0.45 * canvas[line, 0]
    cv2.fillPoly(canvas, [np.rint(outline * 16).astype(np.int32)], haze.tolist(), cv2.LINE_AA, 4)


def _ground_relief(rng: np.random.Generator, place: Place, height: int, width: int) -> Field:
    """Grain, and joints between tiles, laid on the ground: fine far away, coarse near by."""
    flat = fractal(rng, 128, 256, 26, 4) * place.relief
    if place.tiles:
        flat[::32] -= 3 * place.relief
        flat[1::32] -= 3 * place.relief
        flat[:, ::32] -= 3 * place.relief
        flat[:, 1::32] -= 3 * place.relief
    far = 0.0 if place.sky else 41.0  # without a horizon the view is steeper
    corners = np.array([[far, 0], [256 - far, 0], [205, 128], [51, 128]], np.float32)
    frame = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    laid = cv2.getPerspectiveTransform(corners, frame)
    return np.asarray(
        cv2.warpPerspective(flat, laid, (width, height), borderMode=cv2.BORDER_REFLECT), np.float32
    )


def occluder_outline(kind: str, rng: np.random.Generator, height: int, width: int) -> Image:
    """What an obstacle covers [height, width], 0..255."""
    if kind == "trunk":
        y = np.linspace(0, height, 14)
        lean = width * 0.08 * np.sin(y / height * 5 + rng.uniform(0, 6))
        left, right = (width * side + lean + rng.uniform(-1, 1, 14) for side in (0.14, 0.86))
        outline = np.concatenate([np.stack([left, y], -1), np.stack([right, y], -1)[::-1]])
    else:
        turn = np.linspace(0, 2 * np.pi, 72, endpoint=False)
        lobes = 0.07 if kind == "bush" else 0.03
        wave, start = rng.uniform(0.7, 1.3, 3) * (3, 8, 15), rng.uniform(0, 6, 3)
        radius = 0.86 + lobes * (np.sin(np.outer(turn, np.rint(wave)) + start) @ (0.5, 0.8, 0.5))
        middle = np.array([width / 2, height / 2])
        outline = np.stack([np.cos(turn), np.sin(turn)], -1) * radius[:, None] * middle + middle
    alpha = np.zeros((height, width), np.uint8)
    cv2.fillPoly(alpha, [np.rint(outline * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return alpha


def occluder_paint(kind: str, rng: np.random.Generator, alpha: Image, colour: Field) -> Image:
    """The look of an obstacle [height, width, 3]: bark, leaves or stone with a little of `colour`."""
    height, width = alpha.shape
    if kind == "trunk":
        tint, rough = np.array([105, 82, 62]), 10
        grain = cv2.blur(fractal(rng, height, width, max(3, width / 6), 3), (1, max(1, height // 10)))
    elif kind == "bush":
        tint, rough, grain = np.array([62, 98, 48]), 16, fractal(rng, height, width, max(3, height / 9), 4)
    else:
        tint, rough, grain = np.array([128, 124, 118]), 10, fractal(rng, height, width, max(3, height / 3), 4)
    soft = max(3, min(height, width) // 3)
    light = cv2.blur(alpha, (soft, soft), anchor=(soft // 3, soft // 3), borderType=cv2.BORDER_REPLICATE)
    paint = tint + rng.uniform(-20, 20, 3) + colour * 0.15 + grain[..., None] * rough
    return np.clip(paint * (0.45 + 0.55 * light[..., None] / 255), 0, 255).astype(np.uint8)
