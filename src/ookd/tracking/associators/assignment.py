"""Identity by the best assignment of a frame's detections to all remembered objects, or to none.

The similarity of a detection and an object is the cosine of their embeddings, minus the distance from the
object's expected position, minus the differences in class and size, plus the overlap of their masks. A pair
that is not above `match` is excluded, so that a new object cannot take the id of one that left. Of all
assignments, the one with the largest sum above `match` is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ookd.masks import Floats, Ints
from ookd.tracking.associators.associator import Associator
from ookd.tracking.associators.looks import (
    EmbeddingMemory,
    add_looks,
    add_places,
    best_pairs,
    distance,
    overlap,
    remembered,
    size_ratio,
    unit,
)
from ookd.tracking.associators.ranges import Between, Choice, Range, Steps
from ookd.tracking.select import DetectionFeatures

COASTING = 3  # frames for which a hidden object is assumed to move on
BRIEF = 2  # frames between two observations that still give a speed


@dataclass(frozen=True, slots=True)
class TrackMemory(EmbeddingMemory):
    """Each object with its last L unit embeddings, the sum of all its embeddings, and its speed."""

    whole: Floats  # [M, D] sum of the embeddings of all its frames, weighted by score
    velocities: Floats  # [M, 2] frame heights per frame


class AssignmentAssociator(Associator[TrackMemory]):
    memory = TrackMemory
    by_looks = True

    @property
    def ranges(self) -> Mapping[str, Range]:
        return {
            "match": Between(0.3, 0.95),
            "nearness": Between(0.0, 0.3),
            "far": Between(1.0, 6.0),
            "motion": Between(0.0, 1.0),
            "other_class": Between(0.0, 0.3),
            "growth": Between(0.0, 0.1),
            "overlap": Between(0.0, 0.5),
            "whole_track": Between(0.0, 1.0),
            "memory_length": Steps(1, 16),
            "prefer_recent": Choice(True, False),
            "horizon": Steps(10, 80),
        }

    def begin(self, classes: int, channels: int) -> TrackMemory:
        return TrackMemory.begin(
            self.config,
            classes,
            channels,
            whole=np.zeros((0, channels), np.float32),
            velocities=np.zeros((0, 2), np.float32),
        )

    def match(self, memory: TrackMemory, detections: DetectionFeatures) -> Ints:
        above = self.affinity(memory, detections) - np.float32(self.config.match)
        rows, columns = best_pairs(above)
        ids = np.full(len(detections), -1, np.int64)
        ids[rows] = memory.ids[columns]
        return ids

    def affinity(self, memory: TrackMemory, detections: DetectionFeatures) -> Floats:
        """Similarity of N detections and M objects -> [N, M]."""
        config = self.config
        known = unit(remembered(memory, config))
        if config.whole_track:
            share = np.float32(config.whole_track)
            known = unit((1 - share) * known + share * unit(memory.whole))
        affinity: Floats = unit(detections.embeds) @ known.T
        if config.nearness:
            apart = distance(detections.places[:, None], self.expected(memory), config.far)
            affinity -= np.float32(config.nearness) * apart
        if config.other_class:
            classes = unit(detections.probs) @ unit(memory.probs.astype(np.float32)).T
            affinity -= np.float32(config.other_class) * (1 - classes)
        if config.growth:
            affinity -= np.float32(config.growth) * size_ratio(detections.places[:, None], memory.places)
        if config.overlap:
            affinity += np.float32(config.overlap) * overlap(detections, memory)
        return affinity

    def expected(self, memory: TrackMemory) -> Floats:
        """Expected position of each object in the next frame [M, 3]."""
        places = memory.places.copy()
        frames = np.minimum(memory.frame - memory.last, COASTING)[:, None]
        places[:, :2] += np.float32(self.config.motion) * memory.velocities * frames
        return places

    def note(self, arrays: dict[str, NDArray[Any]], rows: Ints, found: DetectionFeatures, frame: int) -> None:
        looks = unit(found.embeds)
        add_looks(arrays, rows, looks, found.scores, self.config)
        arrays["whole"][rows] += found.scores[:, None] * looks
        seen, gap = arrays["seen"][rows], frame - arrays["last"][rows]
        gap = gap[:, None].astype(np.float32)
        moved = (found.places[:, :2] - arrays["places"][rows, :2]) / gap.clip(1)
        smooth = np.where((seen > 1)[:, None], (arrays["velocities"][rows] + moved) / 2, moved)
        arrays["velocities"][rows] = np.where((seen > 0)[:, None] & (gap <= BRIEF), smooth, 0)
        add_places(arrays, rows, found, masks=self.config.overlap > 0)
