"""Identity from a memory of embeddings: each object is recognised by its last few embeddings.

Every detection is compared with all remembered objects. Detections choose in the order of their scores, and
may match none. With the default constants this is IDOL's published tracker.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ookd.config.tracker import TrackerConfig
from ookd.masks import Floats, Ints
from ookd.tracking.associators.associator import Associator, Memory, unit
from ookd.tracking.select import DetectionFeatures

FAR = 2.0  # object sizes; farther places count the same, because objects leave and cameras jump


@dataclass(frozen=True, slots=True)
class EmbeddingMemory(Memory):
    """Each object with its last L embeddings."""

    embeds: Floats  # [M, L, D] newest last; the first L - seen slots are empty
    scores: Floats  # [M, L] of the same frames
    places: Floats  # [M, 3] where it was last: centre x, y and side, in frame heights


class MemoryAssociator(Associator[EmbeddingMemory]):
    memory = EmbeddingMemory

    def begin(self, classes: int, channels: int) -> EmbeddingMemory:
        slots = self.config.slots
        return EmbeddingMemory.empty(
            classes,
            embeds=np.zeros((0, slots, channels), np.float32),
            scores=np.zeros((0, slots), np.float32),
            places=np.zeros((0, 3), np.float32),
        )

    def match(self, memory: EmbeddingMemory, detections: DetectionFeatures) -> Ints:
        column = choose(similarity(detections, memory, self.config), memory.seen, self.config)
        return np.where(column >= 0, memory.ids[column], -1)

    def note(self, arrays: dict[str, NDArray[Any]], rows: Ints, found: DetectionFeatures) -> None:
        embeds, scores, fresh = arrays["embeds"], arrays["scores"], found.embeds
        if self.config.memory == "momentum":
            share = np.where(arrays["seen"][rows] == 0, 1, self.config.momentum).astype(np.float32)[:, None]
            fresh = share * fresh + (1 - share) * embeds[rows, -1]
        embeds[rows, :-1], scores[rows, :-1] = embeds[rows, 1:], scores[rows, 1:]
        embeds[rows, -1], scores[rows, -1] = fresh, found.scores
        arrays["places"][rows] = found.places


def remembered(memory: EmbeddingMemory, config: TrackerConfig) -> Floats:
    """The embedding [M, D] that each object is recognised by.

    It is the mean over the object's n filled slots, weighted by the score of the frame they come from. To
    prefer the recent, 1/n, 2/n, .. n/n is added to the weights from the oldest to the newest.
    """
    if config.memory == "momentum":
        return memory.embeds[:, -1]
    length = memory.scores.shape[1]
    filled = np.minimum(memory.seen, length)[:, None]  # [M, 1]
    age = np.arange(1, length + 1) - (length - filled)  # [M, L]: 1..n in the filled slots, <= 0 before
    weights = memory.scores.copy()
    if config.prefer_recent:
        weights += age.astype(np.float32) / filled.astype(np.float32)
    weights *= age > 0
    weights /= np.maximum(weights.sum(1, keepdims=True), 1e-12)
    mean: Floats = np.einsum("ml,mld->md", weights, memory.embeds)
    return mean


def similarity(detections: DetectionFeatures, memory: EmbeddingMemory, config: TrackerConfig) -> Floats:
    """How much each of N detections is like each of M objects, normalised as configured -> [N, M]."""
    embeds, known = detections.embeds, remembered(memory, config)
    if config.similarity == "cosine":
        embeds, known = unit(embeds), unit(known)
    raw: Floats = embeds @ known.T * np.float32(config.scale)
    if config.nearness:
        raw -= np.float32(config.nearness) * distance(detections.places, memory.places)
    if config.normalise == "none":
        return raw
    over_memory = _softmax(raw, 1)
    if config.normalise == "memory":
        return over_memory
    return np.float32(0.5) * (over_memory + _softmax(raw, 0))


def distance(here: Floats, there: Floats) -> Floats:
    """How far places [N, 3] are from places [M, 3] in the size of the objects, at most `FAR` -> [N, M]."""
    apart = np.linalg.norm(here[:, None, :2] - there[:, :2], axis=2)
    size = np.sqrt(here[:, None, 2] * there[:, 2])
    far: Floats = np.minimum(apart / np.maximum(size, 1e-6), np.float32(FAR))
    return far


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
