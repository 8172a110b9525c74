"""Identity from a memory of embeddings: each object is recognised by its last few embeddings.

Every detection is compared with all remembered objects. Detections choose in the order of their scores, and
may match none. With the default constants this is IDOL's published tracker.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ookd.config.tracker import TrackerConfig
from ookd.masks import Floats, Ints
from ookd.tracking.associators.associator import Associator
from ookd.tracking.associators.looks import (
    EmbeddingMemory,
    add_looks,
    add_places,
    distance,
    overlap,
    remembered,
    unit,
)
from ookd.tracking.associators.ranges import Between, Choice, Range, Steps
from ookd.tracking.select import DetectionFeatures


class MemoryAssociator(Associator[EmbeddingMemory]):
    memory = EmbeddingMemory
    by_looks = True

    @property
    def ranges(self) -> Mapping[str, Range]:
        absolute = self.config.similarity == "cosine"  # a fixed threshold on it is meaningful
        return {
            "normalise": Choice("both", "memory", *(["none"] if absolute else [])),
            "scale": Between(self.config.scale / 5, self.config.scale * 5, log=True),
            "match": Between(0.05, 0.9),
            "nearness": Between(0.0, 8.0),
            "far": Between(1.0, 6.0),
            "overlap": Between(0.0, 8.0),
            "prefer_lasting": Choice(True, False),
            "memory_length": Steps(1, 10),
            "prefer_recent": Choice(True, False),
            "horizon": Steps(3, 40),
        }

    def begin(self, classes: int, channels: int) -> EmbeddingMemory:
        return EmbeddingMemory.begin(self.config, classes, channels)

    def match(self, memory: EmbeddingMemory, detections: DetectionFeatures) -> Ints:
        column = choose(similarity(detections, memory, self.config), memory.seen, self.config)
        return np.where(column >= 0, memory.ids[column], -1)

    def note(self, arrays: dict[str, NDArray[Any]], rows: Ints, found: DetectionFeatures, frame: int) -> None:
        add_looks(arrays, rows, found.embeds, found.scores, self.config)
        add_places(arrays, rows, found, masks=self.config.overlap > 0)


def similarity(detections: DetectionFeatures, memory: EmbeddingMemory, config: TrackerConfig) -> Floats:
    """Similarity of N detections and M objects, normalised as configured -> [N, M]."""
    embeds, known = detections.embeds, remembered(memory, config)
    if config.similarity == "cosine":
        embeds, known = unit(embeds), unit(known)
    raw: Floats = embeds @ known.T * np.float32(config.scale)
    if config.nearness:
        raw -= np.float32(config.nearness) * distance(detections.places[:, None], memory.places, config.far)
    if config.overlap:
        raw += np.float32(config.overlap) * overlap(detections, memory)
    if config.normalise == "none":
        return raw
    over_memory = _softmax(raw, 1)
    if config.normalise == "memory":
        return over_memory
    return np.float32(0.5) * (over_memory + _softmax(raw, 0))


def choose(similar: Floats, seen: Ints, config: TrackerConfig) -> Ints:
    """The object (a column of `similar` [N, M]) of each detection, or -1; no object is given twice.

    Detections choose in order, best score first, and a chosen object is closed to the others. A detection
    with several candidates weighs each by the frames it was seen in. As in the published tracker, it weighs
    all other objects by the candidates' mean, so one of those may win.
    """
    similar = similar.copy()
    choice = np.full(len(similar), -1, np.int64)
    for row, values in enumerate(similar):
        if config.prefer_lasting:
            candidates = values > config.match
            if np.count_nonzero(candidates) > 1:
                values = values * np.where(candidates, seen, seen[candidates].mean())
        best = int(values.argmax())
        if values[best] > config.match:
            choice[row] = best
            similar[row + 1 :, best] = 0
    return choice


def _softmax(values: Floats, axis: int) -> Floats:
    powers = np.exp(values - values.max(axis, keepdims=True, initial=-np.inf))
    total: Floats = powers / powers.sum(axis, keepdims=True)
    return total
