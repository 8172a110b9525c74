"""Identity from one frame to the next: the best pairing of the detections with the objects of the last frame.

For models whose queries change little between frames, so that no memory is needed (as in MinVIS). The cosine
of two embeddings must be above `match`; of all pairings, the one with the largest sum is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from ookd.config.tracker import TrackerConfig
from ookd.masks import Floats, Ints
from ookd.tracking.associators.associator import Associator, Memory
from ookd.tracking.associators.looks import unit
from ookd.tracking.associators.ranges import Between, Range
from ookd.tracking.select import DetectionFeatures


@dataclass(frozen=True, slots=True)
class LastFrame(Memory):
    """The objects of the last frame."""

    embeds: Floats  # [M, D] of length 1


class ConsecutiveAssociator(Associator[LastFrame]):
    memory = LastFrame

    def __init__(self, config: TrackerConfig) -> None:
        super().__init__(config)
        self.horizon = 1  # an object that was not in the last frame is gone

    @property
    def ranges(self) -> Mapping[str, Range]:
        return {"match": Between(0.05, 0.95)}

    def begin(self, classes: int, channels: int) -> LastFrame:
        return LastFrame.empty(classes, embeds=np.zeros((0, channels), np.float32))

    def match(self, memory: LastFrame, detections: DetectionFeatures) -> Ints:
        cosine = unit(detections.embeds) @ memory.embeds.T
        rows, columns = linear_sum_assignment(cosine, maximize=True)
        alike = cosine[rows, columns] > self.config.match
        ids = np.full(len(detections), -1, np.int64)
        ids[rows[alike]] = memory.ids[columns[alike]]
        return ids

    def note(self, arrays: dict[str, NDArray[Any]], rows: Ints, found: DetectionFeatures, frame: int) -> None:
        arrays["embeds"][rows] = unit(found.embeds)
