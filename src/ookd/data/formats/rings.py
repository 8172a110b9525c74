"""Masks as single rings of points, for formats that know neither holes nor parts.

A mask with several parts or holes becomes rings joined by bridges, which are walked there and back and
enclose nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ookd.data import rle
from ookd.structures import Track, Video

_FINE = 2  # masks are outlined at this scale, so that outlines pass between pixel centres


def ring_of(video: Video, track: Track, frame: int) -> NDArray[np.float64]:
    """[P, 2] pixels in a frame that shows the track, none for an empty mask; a lone polygon stays."""
    segmentation = track.segmentations[frame]
    if isinstance(segmentation, list) and len(segmentation) == 1:
        return np.array(segmentation[0], float).reshape(-1, 2)
    return joined(outlines(rle.decode(rle.of_track(video, track, frame))))


def outlines(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Closed rings [P, 2] around a mask's parts and holes that rasterise to exactly the mask."""
    fine = mask.astype(np.uint8).repeat(_FINE, 0).repeat(_FINE, 1)
    rings, _ = cv2.findContours(fine, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [(ring[:, 0].astype(float) + 0.5) / _FINE for ring in rings]


def joined(rings: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Join rings into one [P, 2]: walk around one, and at the point nearest to another, go around that one.

    Bridges are as short as possible, because some readers draw outlines a pixel wide.
    """
    if not rings:
        return np.zeros((0, 2))
    from scipy.spatial import cKDTree

    walk, *others = sorted(rings, key=len, reverse=True)
    for ring in others:
        distance, nearest = map(np.asarray, cKDTree(walk).query(ring))  # [P], [P] for each point of the ring
        there = int(distance.argmin())
        here = int(nearest[there])
        around = np.concatenate([ring[there:], ring[: there + 1]])
        walk = np.concatenate([walk[: here + 1], around, walk[here:]])
    return walk
