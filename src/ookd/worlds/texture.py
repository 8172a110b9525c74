"""Textures of bodies and grounds: fractal noise, and the patterns that distinguish classes."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np
from numpy.typing import NDArray

from ookd.worlds.layers import Image
from ookd.worlds.species import SPECIES, Pattern, Species

Field = NDArray[np.float32]

COAT = 96  # pixels a side of a coat
REACH = 0.75  # a coat covers -REACH..REACH in body coordinates
_V, _U = np.meshgrid(*(np.linspace(-REACH, REACH, COAT, dtype=np.float32),) * 2, indexing="ij")


def fractal(rng: np.random.Generator, height: int, width: int, coarse: float, octaves: int = 3) -> Field:
    """Smooth random relief of about unit deviation; `coarse` is its largest features' size in pixels."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        cell = max(1.0, coarse / 2**octave)
        grid = rng.standard_normal((int(height / cell) + 2, int(width / cell) + 2), np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * 0.6**octave
    return total


def _step(wave: NDArray[np.floating], sharp: float = 3.0) -> Field:
    return np.asarray(np.clip(0.5 + sharp * wave, 0, 1), np.float32)


def _pattern(kind: Pattern, rng: np.random.Generator, warp: Field) -> Field:
    """Where the second colour lies, 0..1 over the coat; `warp` bends what is regular."""
    pace = float(rng.uniform(0.85, 1.2)) * 2 * np.pi
    start = float(rng.uniform(0, 2 * np.pi))
    match kind:
        case "stripes":
            return _step(np.sin(pace * 7 * (_U + warp) + start))
        case "bands":
            return _step(np.sin(pace * 3 * (_U + warp) + start) - 0.35)
        case "rows":
            return _step(np.sin(pace * 5 * (_V + warp) + start))
        case "spots":
            return _step(np.sin(pace * 4 * (_U + warp)) * np.sin(pace * 4 * (_V - warp)) - 0.35, 5)
        case "patches":
            return _step(fractal(rng, COAT, COAT, 18, 2), 2.5)
        case "scales":
            a, b, c = (np.cos(pace * 5 * (_U * np.cos(t) + _V * np.sin(t))) for t in (0.0, 2.09, 4.19))
            return _step(0.25 - (a + b + c) / 2, 2)
        case "rings":
            return _step(np.sin(pace * 6 * (np.hypot(_U, _V) + warp) + start))
        case "cells":
            return _step(0.3 - np.abs(fractal(rng, COAT, COAT, 22, 2)), 3)
        case "plain":
            return _step(warp * 4, 1)


def _rgb(hue: float, vivid: float, value: float) -> Field:
    return np.asarray(colorsys.hsv_to_rgb(hue / 360 % 1, min(max(vivid, 0), 1), value), np.float32) * 255


def coat(
    species: Species,
    palette: np.random.Generator,
    markings: np.random.Generator,
    appearance: float,
    ground: Field,
    shift: float,
) -> Image:
    """An individual's texture [COAT, COAT, 3].

    The harder the appearance, the more hues stray, patterns borrow from other classes, contrast fades and
    the whole takes on the colour of the `ground`. Look-alikes share the `palette`, up to a `shift` of hue in
    degrees, but like zebras each has its own `markings`.
    """
    stray = float(palette.standard_normal()) * (6 + 50 * appearance) + shift
    vivid = species.vivid * (1 - 0.6 * appearance) * float(palette.uniform(0.8, 1.15))
    bright = float(palette.uniform(0.72, 1.0))
    base = _rgb(species.hue + stray, vivid, bright)
    second = _rgb(species.second + stray, vivid * 0.9, 0.3 if bright > 0.84 else 0.45)
    foreign = SPECIES[int(palette.integers(len(SPECIES)))].pattern
    warp = fractal(markings, COAT, COAT, 40, 2) * np.float32(0.035)
    own, other = _pattern(species.pattern, markings, warp), _pattern(foreign, markings, warp)
    blend = own + (other - own) * np.float32(0.5 * appearance)
    depth = (1 - 0.5 * appearance) * (0.35 if species.pattern == "plain" else 1)
    hidden = 0.55 * appearance
    colours = base + (second - base) * np.linspace(0, depth, 256)[:, None]  # [256, 3] by blend
    colours += (ground - colours) * hidden
    table = np.clip(colours, 0, 255).astype(np.uint8)[None]
    painted = cv2.LUT(cv2.merge([(blend * 255).astype(np.uint8)] * 3), table)
    grain = fractal(markings, COAT, COAT, 4, 1) * np.float32(7 * (1 - hidden))
    return np.asarray(cv2.add(painted, cv2.merge([grain] * 3), dtype=cv2.CV_8U), np.uint8)
