"""Where masks lie, column by column, so that masks of all frames are compared at once.

A mask has few runs in a column, mostly one. So a true track is turned into layers that hold at most one run
a column, and every run of every prediction looks up what lies in its column.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Placed:
    """Runs of masks by place: the columns of a video's frames, counted from the first frame on."""

    place: NDArray[np.int64]  # [R]
    top: NDArray[np.int32]  # [R] first row
    bottom: NDArray[np.int32]  # [R] first row below

    def only(self, some: slice | NDArray[Any]) -> Placed:
        return Placed(self.place[some], self.top[some], self.bottom[some])

    def layers(self, places: int) -> Iterator[Layer]:
        """One track's first run in each of so many places, its second run in each, ..."""
        runs = self
        while len(runs.place):
            further = np.diff(runs.place, prepend=-1) == 0  # not the first in its place
            first = runs.only(~further)
            layer = Layer(np.zeros(places, np.int32), np.zeros(places, np.int32))
            layer.top[first.place], layer.bottom[first.place] = first.top, first.bottom
            yield layer
            runs = runs.only(further)

    def inside(self, layer: Layer) -> NDArray[np.int32]:
        """[R] how many rows of each run are in a layer."""
        rows = np.minimum(layer.bottom.take(self.place), self.bottom)
        rows -= np.maximum(layer.top.take(self.place), self.top)
        return np.maximum(rows, 0, out=rows)


@dataclass(frozen=True, slots=True)
class Layer:
    """At most one run of a track in each place; from 0 to 0 where there is none."""

    top: NDArray[np.int32]  # [P]
    bottom: NDArray[np.int32]  # [P]
