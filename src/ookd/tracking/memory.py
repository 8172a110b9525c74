"""What a tracker remembers: one row an object that may still return. All of it is plain arrays."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ookd.config.tracker import TrackerConfig
from ookd.tracking.select import DetectionFeatures, Floats, Ints


@dataclass(frozen=True, slots=True)
class Memory:
    """M objects by ascending id, each with its last L embeddings; never changed in place."""

    frame: int  # number of the next frame
    next_id: int  # ids only grow
    ids: Ints  # [M]
    seen: Ints  # [M] frames the object was seen in
    last: Ints  # [M] the last of them
    embeds: Floats  # [M, L, D] newest last; the first L - seen slots are empty
    scores: Floats  # [M, L] of the same frames
    probs: Floats  # [M, K] sum of class scores over its frames
    places: Floats  # [M, 3] where it was last: centre x, y and side, in frame heights

    @classmethod
    def empty(cls, classes: int, channels: int, config: TrackerConfig) -> Memory:
        none = np.zeros(0, np.int64)
        return cls(
            frame=0,
            next_id=0,
            ids=none,
            seen=none,
            last=none,
            embeds=np.zeros((0, config.slots, channels), np.float32),
            scores=np.zeros((0, config.slots), np.float32),
            probs=np.zeros((0, classes), np.float32),
            places=np.zeros((0, 3), np.float32),
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All there is to save."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def of_arrays(cls, arrays: dict[str, Any]) -> Memory:
        """The way back."""
        return cls(**(arrays | {name: int(arrays[name]) for name in ("frame", "next_id")}))

    def __len__(self) -> int:
        return len(self.ids)


def remembered(memory: Memory, config: TrackerConfig) -> Floats:
    """The embedding [M, D] each object is recognised by.

    A mean over its slots, weighted by the score of the frame they come from plus, to prefer the recent,
    1/n, 2/n, .. n/n from the oldest of the n filled slots to the newest.
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


def remember(memory: Memory, ids: Ints, found: DetectionFeatures, config: TrackerConfig) -> Memory:
    """The memory after a frame: `ids` [N] of what was found, -1 for no object."""
    rows = np.flatnonzero(ids >= 0)
    born = rows[ids[rows] >= memory.next_id]  # new ids are given in ascending order
    n = len(born)
    seen, last = _grown(memory.seen, n), _grown(memory.last, n)
    embeds, scores = _grown(memory.embeds, n), _grown(memory.scores, n)
    probs, places = _grown(memory.probs, n), _grown(memory.places, n)
    all_ids = np.concatenate([memory.ids, ids[born]])

    at = np.searchsorted(all_ids, ids[rows])
    fresh = found.embeds[rows]
    if config.memory == "momentum":
        share = np.where(seen[at] == 0, 1, config.momentum).astype(np.float32)[:, None]
        fresh = share * fresh + (1 - share) * embeds[at, -1]
    embeds[at, :-1], scores[at, :-1] = embeds[at, 1:], scores[at, 1:]
    embeds[at, -1], scores[at, -1] = fresh, found.scores[rows]
    probs[at] += found.probs[rows]
    places[at] = found.places[rows]
    seen[at] += 1
    last[at] = memory.frame

    keep = memory.frame - last < config.horizon
    return Memory(
        frame=memory.frame + 1,
        next_id=memory.next_id + n,
        ids=all_ids[keep],
        seen=seen[keep],
        last=last[keep],
        embeds=embeds[keep],
        scores=scores[keep],
        probs=probs[keep],
        places=places[keep],
    )


def _grown(array: NDArray[Any], rows: int) -> NDArray[Any]:
    """A copy with so many rows of zeros appended."""
    return np.concatenate([array, np.zeros((rows, *array.shape[1:]), array.dtype)])
