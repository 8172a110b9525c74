"""What all associators share: how objects start, when they are forgotten, and a memory that can be saved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ookd.config.tracker import TrackerConfig
from ookd.masks import Floats, Ints
from ookd.tracking.associators.ranges import Range
from ookd.tracking.select import DetectionFeatures


@dataclass(frozen=True, slots=True)
class Memory:
    """The M objects that may still return, by ascending id. It is never changed in place.

    An associator that compares more than this adds its own arrays [M, ...].
    """

    frame: int  # number of the next frame
    next_id: int  # ids only grow
    ids: Ints  # [M]
    seen: Ints  # [M] number of frames that showed the object
    last: Ints  # [M] the last of them
    probs: NDArray[np.float64]  # [M, K] sum of class scores over its frames; in float32 it would stop growing

    @classmethod
    def empty(cls, classes: int, **own: NDArray[Any]) -> Self:
        """A memory without objects. `own` are the empty arrays [0, ...] that an associator adds."""
        none = np.zeros(0, np.int64)
        probs = np.zeros((0, classes), np.float64)
        return cls(frame=0, next_id=0, ids=none, seen=none, last=none, probs=probs, **own)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything to save, by name."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def of_arrays(cls, arrays: dict[str, Any]) -> Self:
        """The memory that `arrays` gave these."""
        return cls(**(arrays | {name: int(arrays[name]) for name in ("frame", "next_id")}))

    def mean_probs(self, ids: Ints) -> Floats:
        """Class scores [N, K] of some of the objects: the mean over their frames so far."""
        rows = np.searchsorted(self.ids, ids)
        mean = self.probs[rows] / self.seen[rows, None]
        return mean.astype(np.float32)

    def __len__(self) -> int:
        return len(self.ids)


M = TypeVar("M", bound=Memory)


class Associator(ABC, Generic[M]):
    """Decides which object each detection is. It holds constants only; the memory is passed in and out."""

    memory: ClassVar[type[Memory]]  # M
    by_looks: ClassVar[bool] = False  # whether it recognises returning objects by their embeddings

    def __init__(self, config: TrackerConfig) -> None:
        self.config = config
        self.horizon = config.horizon  # frames for which an unseen object is remembered

    @property
    def ranges(self) -> Mapping[str, Range]:
        """Search ranges of `ookd tune` for the constants that only some associators have."""
        return {}

    @abstractmethod
    def begin(self, classes: int, channels: int) -> M:
        """The memory before the first frame."""

    @abstractmethod
    def match(self, memory: M, detections: DetectionFeatures) -> Ints:
        """The id [N] of the remembered object that each detection is, -1 for none; no id appears twice.

        Only called while something is remembered.
        """

    @abstractmethod
    def note(self, arrays: dict[str, NDArray[Any]], rows: Ints, found: DetectionFeatures, frame: int) -> None:
        """Update the memory's own arrays in place with what this frame shows of the objects in `rows`.

        New objects already have rows, filled with zeros; their `seen` is still 0.
        """

    def step(self, memory: M | None, detections: DetectionFeatures) -> tuple[Ints, M]:
        """The ids [N] of a frame's detections (best first) and the memory after it; None: the first frame.

        An id of -1 means no object: neither known nor confident enough to be a new one.
        """
        if memory is None:
            memory = self.begin(detections.probs.shape[1], detections.embeds.shape[1])
        if len(memory):
            ids, needed = self.match(memory, detections), self.config.new_score
        else:
            ids, needed = np.full(len(detections), -1, np.int64), self.config.first_score
        born = np.flatnonzero((ids < 0) & (detections.scores > needed))
        ids[born] = memory.next_id + np.arange(len(born))
        return ids, self.remember(memory, ids, detections)

    def remember(self, memory: M, ids: Ints, detections: DetectionFeatures) -> M:
        """The memory after a frame whose detections got these ids, -1 for none. New ids start new objects."""
        born = np.setdiff1d(ids[ids >= 0], memory.ids)
        arrays = {
            field.name: _grown(getattr(memory, field.name), len(born))
            for field in fields(memory)
            if field.name not in ("frame", "next_id")
        }
        arrays["ids"][len(memory) :] = born
        if len(born) and born[0] < memory.next_id:  # a forgotten object
            order = np.argsort(arrays["ids"])
            arrays = {name: array[order] for name, array in arrays.items()}
        found = np.flatnonzero(ids >= 0)
        rows = np.searchsorted(arrays["ids"], ids[found])
        detections = detections.at(found)
        self.note(arrays, rows, detections, memory.frame)
        arrays["probs"][rows] += detections.probs
        arrays["seen"][rows] += 1
        arrays["last"][rows] = memory.frame
        kept = memory.frame - arrays["last"] < self.horizon
        if not kept.all():
            arrays = {name: array[kept] for name, array in arrays.items()}
        next_id = max(memory.next_id, int(ids.max(initial=-1)) + 1)
        return type(memory)(frame=memory.frame + 1, next_id=next_id, **arrays)


def _grown(array: NDArray[Any], rows: int) -> NDArray[Any]:
    """A copy with this many rows of zeros appended."""
    return np.concatenate([array, np.zeros((rows, *array.shape[1:]), array.dtype)])
