"""Which object each detection is: matching to the memory, births, forgetting.

`advance` is a pure function: a memory and a frame's detections in, ids and the next memory out.
"""

from __future__ import annotations

import numpy as np

from ookd.config.tracker import TrackerConfig
from ookd.tracking.memory import Memory, remember, remembered
from ookd.tracking.select import DetectionFeatures, Floats, Ints

FAR = 2.0  # object sizes: beyond, one place is as good as another, for objects leave and cameras jump


def advance(memory: Memory, seen: DetectionFeatures, config: TrackerConfig) -> tuple[Ints, Memory]:
    """The ids [N] of a frame's detections (after mask suppression, best first) and the memory after it.

    An id of -1 says that the detection is no object: neither known nor sure enough to be a new one.
    """
    if len(memory):
        similar = similarity(seen, memory, config)
        column = associate(similar, memory.seen, config)
        ids = np.where(column >= 0, memory.ids[column], -1)
        needed = config.new_score
    else:
        ids = np.full(len(seen), -1, np.int64)
        needed = config.first_score
    born = np.flatnonzero((ids < 0) & (seen.scores > needed))
    ids[born] = memory.next_id + np.arange(len(born))
    return ids, remember(memory, ids, seen, config)


def similarity(seen: DetectionFeatures, memory: Memory, config: TrackerConfig) -> Floats:
    """How much each of N detections is like each of M objects, normalised as configured -> [N, M]."""
    embeds, known = seen.embeds, remembered(memory, config)
    if config.similarity == "cosine":
        embeds, known = _unit(embeds), _unit(known)
    raw: Floats = embeds @ known.T * np.float32(config.scale)
    if config.nearness:
        raw -= np.float32(config.nearness) * distance(seen.places, memory.places)
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


def associate(similar: Floats, seen: Ints, config: TrackerConfig) -> Ints:
    """The object (a column of `similar` [N, M]) of each detection, or -1; no object is given twice.

    Detections choose in order, best score first, and a chosen object is closed to all others. A detection
    with several candidates weighs each by the frames it was seen in - and, as in the published tracker,
    everything else by the candidates' mean, so a non-candidate may win by it.
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


def _unit(vectors: Floats) -> Floats:
    unit: Floats = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit


def _softmax(values: Floats, axis: int) -> Floats:
    powers = np.exp(values - values.max(axis, keepdims=True, initial=-np.inf))
    total: Floats = powers / powers.sum(axis, keepdims=True)
    return total
