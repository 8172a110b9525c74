"""Identity from the query itself: a query stays with its object, so its index says who it is.

For models that carry their queries from frame to frame. An object begins when the score of a free query is
high enough. It ends, and its query is free again, when the query was not selected for `horizon` frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ookd.masks import Ints
from ookd.tracking.associators.associator import Associator, Memory
from ookd.tracking.associators.ranges import Range, Steps
from ookd.tracking.select import DetectionFeatures


@dataclass(frozen=True, slots=True)
class Slots(Memory):
    """The objects, each in the slot of a query."""

    query: Ints  # [M] no query has two objects


class SlotAssociator(Associator[Slots]):
    memory = Slots

    @property
    def ranges(self) -> Mapping[str, Range]:
        return {"horizon": Steps(1, 80)}

    def begin(self, classes: int, channels: int) -> Slots:
        return Slots.empty(classes, query=np.zeros(0, np.int64))

    def match(self, memory: Slots, detections: DetectionFeatures) -> Ints:
        same = detections.query[:, None] == memory.query  # [N, M]
        return np.where(same.any(1), memory.ids[same.argmax(1)], -1)

    def note(self, arrays: dict[str, NDArray[Any]], rows: Ints, found: DetectionFeatures, frame: int) -> None:
        arrays["query"][rows] = found.query
