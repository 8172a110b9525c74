"""Identity from the model: it reports the object of each query, or a query stays with its object.

For models that carry their queries from frame to frame. If the model does not report the object of a query,
the query's index is the identity. An object starts when the score of a free query is high enough. It ends
when it was not selected for `horizon` frames; then its query is free again.
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
    """The objects, each under the model's own number."""

    query: Ints  # [M] the model's number for the object, or the index of its query


class SlotAssociator(Associator[Slots]):
    memory = Slots

    @property
    def ranges(self) -> Mapping[str, Range]:
        return {"horizon": Steps(1, 80)}

    def begin(self, classes: int, channels: int) -> Slots:
        return Slots.empty(classes, query=np.zeros(0, np.int64))

    def match(self, memory: Slots, detections: DetectionFeatures) -> Ints:
        same = _held(detections)[:, None] == memory.query  # [N, M]
        return np.where(same.any(1), memory.ids[same.argmax(1)], -1)

    def note(self, arrays: dict[str, NDArray[Any]], rows: Ints, found: DetectionFeatures, frame: int) -> None:
        arrays["query"][rows] = _held(found)


def _held(detections: DetectionFeatures) -> Ints:
    """The model's number for the object of each detection [N]."""
    return detections.query if detections.identity is None else detections.identity
