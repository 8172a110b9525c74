"""The features that an object is recognised by: its last few embeddings and its last position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from ookd.config.tracker import TrackerConfig
from ookd.masks import Bools, Floats, Ints
from ookd.tracking.associators.associator import Memory
from ookd.tracking.select import DetectionFeatures


@dataclass(frozen=True, slots=True)
class EmbeddingMemory(Memory):
    """Each object with its last L embeddings."""

    embeds: Floats  # [M, L, D] newest last; the first L - seen slots are empty
    scores: Floats  # [M, L] of the same frames
    places: Floats  # [M, 3] last centre x, y and side, in frame heights
    cells: Bools  # [M, c] its last mask, coarse; no columns if masks are not compared

    @classmethod
    def begin(cls, config: TrackerConfig, classes: int, channels: int, **own: NDArray[Any]) -> Self:
        """No object yet."""
        slots = config.slots
        return cls.empty(
            classes,
            embeds=np.zeros((0, slots, channels), np.float32),
            scores=np.zeros((0, slots), np.float32),
            places=np.zeros((0, 3), np.float32),
            cells=np.zeros((0, 0), bool),
            **own,
        )

    @classmethod
    def of_arrays(cls, arrays: dict[str, Any]) -> Self:
        """Memories of earlier versions have no masks."""
        none = np.zeros((len(arrays["ids"]), 0), bool)
        return super(EmbeddingMemory, cls).of_arrays({"cells": none, **arrays})


def add_looks(
    arrays: dict[str, NDArray[Any]], rows: Ints, fresh: Floats, scores: Floats, config: TrackerConfig
) -> None:
    """Write the newest embedding [N, D] of the objects in `rows`, with its score."""
    embeds, kept = arrays["embeds"], arrays["scores"]
    if config.memory == "momentum":
        share = np.where(arrays["seen"][rows] == 0, 1, config.momentum).astype(np.float32)[:, None]
        fresh = share * fresh + (1 - share) * embeds[rows, -1]
    embeds[rows, :-1], kept[rows, :-1] = embeds[rows, 1:], kept[rows, 1:]
    embeds[rows, -1], kept[rows, -1] = fresh, scores


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


def add_places(arrays: dict[str, NDArray[Any]], rows: Ints, found: DetectionFeatures, masks: bool) -> None:
    """Write the positions of the objects in `rows`, and their masks if these are compared."""
    arrays["places"][rows] = found.places
    if masks and found.cells is not None:
        if arrays["cells"].shape[1] != found.cells.shape[1]:  # the first ones, or frames of another size
            arrays["cells"] = np.zeros((len(arrays["ids"]), found.cells.shape[1]), bool)
        arrays["cells"][rows] = found.cells


def overlap(found: DetectionFeatures, memory: EmbeddingMemory) -> Floats:
    """IoU [N, M] of the masks of detections with the last ones of objects; 0 where there is none."""
    if found.cells is None or found.cells.shape[1] != memory.cells.shape[1]:
        return np.zeros((len(found), len(memory)), np.float32)
    here, there = found.cells.astype(np.float32), memory.cells.astype(np.float32)
    shared = here @ there.T
    iou: Floats = shared / np.maximum(here.sum(1)[:, None] + there.sum(1) - shared, 1)
    return iou


def distance(here: Floats, there: Floats, far: float) -> Floats:
    """Distance of places [..., 3] in units of the object size, at most `far`."""
    apart = np.linalg.norm(here[..., :2] - there[..., :2], axis=-1)
    size = np.sqrt(here[..., 2] * there[..., 2])
    limited: Floats = np.minimum(apart / np.maximum(size, 1e-6), np.float32(far))
    return limited


def size_ratio(here: Floats, there: Floats) -> Floats:
    """How many times the size of places [..., 3] doubles or halves, at most twice."""
    sides = [np.log2(np.maximum(places[..., 2], 1e-6)) for places in (here, there)]
    ratio: Floats = np.minimum(np.abs(sides[0] - sides[1]), np.float32(2))
    return ratio


def best_pairs(above: Floats) -> tuple[Ints, Ints]:
    """Rows and columns of the pairing with the largest sum of `above` [N, M]; 0 or less is no pair."""
    rows, columns = linear_sum_assignment(np.maximum(above, 0), maximize=True)
    paired = above[rows, columns] > 0
    return rows[paired], columns[paired]


def unit(vectors: Floats) -> Floats:
    """Rows [N, D] scaled to length 1; zeros stay."""
    scaled: Floats = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return scaled
