"""Paint bodies, light, blur and noise, each only where needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from ookd.worlds.layers import Affine, Image, Region, SceneLayer, blend, compose
from ookd.worlds.shapes import Body, Points
from ookd.worlds.texture import COAT, REACH

_AA, _SHIFT = cv2.LINE_AA, 4


@dataclass(frozen=True)
class Silhouette:
    """A body in a frame: its outlines and what they cover."""

    outlines: Points  # [P, K, 2] pixels
    affine: Affine  # body coordinates -> pixels
    layer: SceneLayer


def silhouette(
    body: Body, phase: float, affine: Affine, height: int, width: int, margin: int
) -> Silhouette | None:
    """The outlines of a body and what they cover; None outside the frame."""
    outlines = body.pose(phase) @ affine[:, :2].T.astype(np.float32) + affine[:, 2].astype(np.float32)
    low, high = outlines.min((0, 1)), outlines.max((0, 1))
    region = Region(
        max(0, int(low[1]) - margin),
        max(0, int(low[0]) - margin),
        min(height, int(high[1]) + margin + 1),
        min(width, int(high[0]) + margin + 1),
    )
    if high[0] < 0 or high[1] < 0 or low[0] > width or low[1] > height or min(region.shape) < 1:
        return None
    alpha = np.zeros(region.shape, np.uint8)
    for outline in _fixed(outlines, region):
        cv2.fillPoly(alpha, [outline], 255, _AA, _SHIFT)
    return Silhouette(outlines, affine, SceneLayer(region, alpha))


def _fixed(outlines: Points, region: Region) -> NDArray[np.int32]:
    """Outlines in sixteenths of a pixel of the region, as OpenCV wants them."""
    return np.asarray(np.rint((outlines - (region.left, region.top)) * 16), np.int32)


def paint_body(
    canvas: Image, body: Body, coat: Image, shape: Silhouette, smear: NDArray[np.float32] | None
) -> None:
    """Paint textured parts first, lit from the upper left, then the plainly coloured ones."""
    region, alpha = shape.layer.region, shape.layer.alpha
    outlines = _fixed(shape.outlines, region)
    tone = np.full(region.shape, 200, np.uint8)
    for outline, value, plain in zip(outlines, body.tones, body.colours, strict=True):
        if plain is None:
            cv2.fillPoly(tone, [outline], float(value) * 250, _AA, _SHIFT)
    extent = max(3, int(np.sqrt(np.count_nonzero(shape.layer.mask)) * 0.45))
    light = cv2.blur(
        alpha, (extent, extent), anchor=(extent // 3, extent // 3), borderType=cv2.BORDER_REPLICATE
    )
    cv2.multiply(tone, cv2.convertScaleAbs(light, alpha=0.62, beta=97), tone, scale=1 / 250)

    to_coat = np.array([[1, 0, REACH], [0, 1, REACH]]) * (COAT - 1) / (2 * REACH)
    place = compose(np.array([[1.0, 0, -region.left], [0, 1, -region.top]]), shape.affine)
    inverse = compose(to_coat, np.asarray(cv2.invertAffineTransform(place), np.float64))
    colour = np.asarray(
        cv2.warpAffine(
            coat,
            inverse,
            region.shape[::-1],
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        ),
        np.uint8,
    )
    cv2.multiply(colour, cv2.cvtColor(tone, cv2.COLOR_GRAY2BGR), colour, scale=1 / 235)
    for outline, plain in zip(outlines, body.colours, strict=True):
        if plain is not None:
            cv2.fillPoly(colour, [outline], plain, _AA, _SHIFT)
    if smear is not None:
        cv2.filter2D(colour, -1, smear, colour)
        alpha = np.asarray(cv2.filter2D(alpha, -1, smear, borderType=cv2.BORDER_REPLICATE), np.uint8)
    blend(canvas, colour, alpha, region)


def streak(dx: float, dy: float) -> NDArray[np.float32] | None:
    """The blur kernel of a motion by (dx, dy) pixels during the exposure; None if it is too short to see."""
    length = float(np.hypot(dx, dy))
    if length < 1.5:
        return None
    reach = min(int(length / 2 + 1), 7)
    kernel = np.zeros((2 * reach + 1,) * 2, np.uint8)
    scale = min(1.0, 2 * reach / length) * 8
    middle = reach * 16 + 8
    start, end = ((int(middle + s * dx * scale), int(middle + s * dy * scale)) for s in (-1, 1))
    cv2.line(kernel, start, end, 255, 1, _AA, _SHIFT)
    return (kernel / max(1, int(kernel.sum()))).astype(np.float32)


@lru_cache(maxsize=2)
def _noise(height: int, width: int) -> Image:
    """Sensor noise from which regions are cut: mean 128, standard deviation 25."""
    rng = np.random.default_rng(0)
    field = rng.standard_normal((height * 2, width * 2, 3), np.float32) * 25 + 128
    return np.clip(field, 0, 255).astype(np.uint8)


def expose(
    canvas: Image, rng: np.random.Generator, light: NDArray[np.float32], blur: float, noise: float
) -> Image:
    """Apply the camera: light [h, w, 3] (1: neutral), defocus in pixels, noise in grey levels."""
    height, width = canvas.shape[:2]
    gain = cv2.resize(np.clip(light * 128, 0, 255).astype(np.uint8), (width, height))
    image = cv2.multiply(canvas, gain, scale=1 / 128)
    if blur > 0.3:
        image = cv2.GaussianBlur(image, (5, 5), blur)
    pool = _noise(height, width)
    top, left = int(rng.integers(height)), int(rng.integers(width))
    grain = pool[top : top + height, left : left + width]
    return np.asarray(cv2.addWeighted(image, 1, grain, noise / 25, -128 * noise / 25), np.uint8)
