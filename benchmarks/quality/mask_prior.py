"""The last mask of a track as a prior of its next one.

It is moved to where the object should be by now. Where the frame's own mask is unsure, it takes in a share of
the moved one: less of it the longer the object was not seen, and the less the two agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from ookd.masks import Floats, Geometry
from ookd.tracking.associators.assignment import BRIEF, COASTING
from ookd.tracking.associators.ranges import Between, Range

# where the constants of `Step` are searched
PRIOR: Mapping[str, Range] = {
    "weight": Between(0.0, 1.0),
    "sure": Between(0.5, 12.0),
    "fade": Between(0.0, 1.0),
    "agree": Between(0.0, 6.0),
    "follow": Between(0.0, 1.0),
}


@dataclass(frozen=True, slots=True)
class Step:
    weight: float  # of the last mask where the frame's own is most unsure
    sure: float  # the logit from which the frame's own mask is sure
    fade: float = 1.0  # what is left of the weight a frame later
    agree: float = 0.0  # the power of the overlap of both masks, which is multiplied in
    follow: float = 0.0  # how far it is moved and scaled to this frame's mask, from where its speed takes it


# of these the one nearest to the truth is the most that such a step can give
BEST_OF = tuple(
    Step(weight, sure, follow=follow)
    for follow in (0.0, 1.0)
    for sure in (2.0, 8.0, 1e6)
    for weight in (0.3, 0.6, 1.0)
)


@dataclass(slots=True)
class _Last:
    """A track when it was seen last."""

    mask: Floats  # [h, w] logits
    frame: int
    place: Floats  # [3] as of a detection
    speed: Floats  # [2]
    seen: int


class MaskPrior:
    """The last masks of one video's tracks."""

    def __init__(self, geometry: Geometry) -> None:
        self._cells = geometry.resized_height / geometry.stride  # in a frame height
        self._tracks: dict[int, _Last] = {}

    def candidates(
        self, id: int, frame: int, own: Floats, place: Floats, steps: Sequence[Step]
    ) -> Iterator[Floats]:
        """A track's mask logits [h, w] after each of the steps; none if it is new."""
        last = self._tracks.get(id)
        if last is None:
            return
        gap = frame - last.frame
        at = cache(lambda follow: self._moved(last, min(gap, COASTING), place, follow))
        for step in steps:
            prior = at(step.follow)
            both = ((own > 0) & (prior > 0)).sum()
            agreement = both / max(((own > 0) | (prior > 0)).sum(), 1)
            weight = step.weight * step.fade ** (gap - 1) * agreement**step.agree
            unsure = np.maximum(1 - np.abs(own) / np.float32(step.sure), 0)
            yield own + np.float32(weight) * unsure * (prior - own)

    def keep(self, id: int, frame: int, mask: Floats, place: Floats) -> None:
        """What the next frame begins with."""
        last = self._tracks.get(id)
        if last is None:
            self._tracks[id] = _Last(mask, frame, place, np.zeros(2, np.float32), 1)
            return
        gap = frame - last.frame
        speed = (place[:2] - last.place[:2]) / gap
        if last.seen > 1:
            speed = (speed + last.speed) / 2
        if gap > BRIEF:
            speed = np.zeros(2, np.float32)
        self._tracks[id] = _Last(mask, frame, place, speed, last.seen + 1)

    def _moved(self, last: _Last, frames: int, place: Floats, follow: float) -> Floats:
        there = last.place[:2] + last.speed * frames
        there = there + follow * (place[:2] - there)
        scale = float(np.clip(place[2] / max(last.place[2], 1e-6), 0.5, 2)) ** follow
        here = last.place[:2] * self._cells - 0.5  # as indices of cells
        shift = there * self._cells - 0.5 - scale * here
        affine = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
        height, width = last.mask.shape
        moved: Floats = cv2.warpAffine(last.mask, affine, (width, height), borderMode=cv2.BORDER_REPLICATE)
        return moved
