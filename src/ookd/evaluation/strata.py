"""Strata: groups of tracks (by size, length, occlusion) and of classes (by frequency) to split AP by.

A stratum says for every true track and every prediction whether it lies outside. The occlusion of a
prediction is unknown, so an unmatched prediction counts as wrong in every occlusion stratum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ookd.evaluation.ap import AREA_RANGES

LENGTHS = {"short": (0, 15), "medium": (16, 40), "long": (41, 10**9)}  # frames in which a track is seen
# Mean of the annotated levels of all frames: none 0, slight 1/4, severe 3/4.
OCCLUSIONS = {"slight": (0.0, 0.25), "moderate": (0.25, 0.5), "heavy": (0.5, 1.0)}
_LEVELS = {"no_occlusion": 0.0, "slight_occlusion": 0.25, "severe_occlusion": 0.75}
NAMES = (
    *(("size", name) for name in AREA_RANGES),  # the official ranges come first
    *(("length", name) for name in LENGTHS),
    *(("occlusion", name) for name in OCCLUSIONS),
)


@dataclass(slots=True)
class TrackTraits:
    """The properties of N tracks that strata depend on."""

    area: NDArray[np.float64]  # [N] mean over the frames where the track is seen
    frames: NDArray[np.int64]  # [N] number of frames where it is seen
    occlusion: NDArray[np.float64]  # [N] nan: unknown


def outside(tracks: TrackTraits, truth: bool) -> NDArray[np.bool_]:
    """[S, N] whether each track lies outside each stratum."""
    size = [(tracks.area < low) | (tracks.area > high) for low, high in AREA_RANGES.values()]
    length = [(tracks.frames < low) | (tracks.frames > high) for low, high in LENGTHS.values()]
    occlusion = [
        ~((tracks.occlusion > low) & (tracks.occlusion <= high)) if low else ~(tracks.occlusion <= high)
        for low, high in OCCLUSIONS.values()
    ]
    if not truth:
        occlusion = [np.zeros_like(outside) for outside in occlusion]
    return np.stack([*size, *length, *occlusion])


def occlusion_of(extra: dict[str, Any]) -> float:
    """How occluded a track is on average, from OVIS words or fractions; nan if it is not annotated."""
    annotated = extra.get("occlusion")
    levels = [_level(level) for level in (annotated if isinstance(annotated, list) else [annotated])]
    known = [level for level in levels if level is not None]
    return sum(known) / len(known) if known else float("nan")


def _level(annotated: Any) -> float | None:
    if isinstance(annotated, str):
        return _LEVELS.get(annotated)
    if isinstance(annotated, int | float) and not isinstance(annotated, bool) and 0 <= annotated <= 1:
        return float(annotated)
    return None


FREQUENCIES = ("minor", "middle", "major")


def frequency_groups(counts: Sequence[int]) -> list[str]:
    """The group of each class: classes with tracks are ranked by their number and cut into thirds."""
    seen = sorted((count, k) for k, count in enumerate(counts) if count)
    group = {k: FREQUENCIES[min(2, place * 3 // len(seen))] for place, (_, k) in enumerate(seen)}
    return [group.get(k, FREQUENCIES[0]) for k in range(len(counts))]
