"""The interface of a network to tracking, in plain arrays, so that it can run in any runtime."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ookd.config.tracker import TrackerConfig
from ookd.masks import Floats, Geometry, Ints
from ookd.tracking.select import Detections, coarse_cells, mask_iou, mask_places, select_queries, suppress

Image = NDArray[np.uint8]  # [H, W, 3] RGB
Arrays = dict[str, NDArray[Any]]
State = dict[str, Any]  # what a network carries between frames: its tensors by name, the batch first


@dataclass(frozen=True, slots=True)
class RawPredictions:
    """A network's output for B frames that were resized and padded to one size."""

    logits: Floats  # [B, Q, K] before the sigmoid
    boxes: Floats | None  # [B, Q, 4] cx cy w h in 0..1 of the unpadded frame
    embed: Floats  # [B, Q, D]
    masks: Callable[[Ints], Floats]  # select [B, N] -> mask logits [B, N, h, w]
    height: int  # of the padded frames
    geometries: Sequence[Geometry]  # B, with mask stride still unknown
    identity: Ints | None = None  # [B, Q] the object of each query, -1 for none; None: not known


class FrameModel(ABC):
    """A network with its preprocessing."""

    @abstractmethod
    def infer(
        self, images: Sequence[Image], short_side: int | None, state: State | None = None
    ) -> tuple[RawPredictions, State | None]:
        """The predictions for one resized image of each stream, and the state after them."""

    @cached_property
    def width(self) -> int:
        """Channels of an embedding, found with an empty image."""
        predictions, _ = self.infer([np.zeros((64, 64, 3), np.uint8)], None)
        return int(predictions.embed.shape[-1])

    def begin(self, streams: int) -> State | None:
        """The state before the first frames; None for a network that carries nothing."""
        return None

    def batch_states(self, states: Sequence[State]) -> State:
        """The states of several streams as one batch."""
        return {name: np.concatenate([state[name] for state in states]) for name in states[0]}

    def save_state(self, state: State) -> Arrays:
        """A state as arrays."""
        return state

    def load_state(self, arrays: Arrays) -> State:
        """The state from the arrays of `save_state`."""
        return arrays

    def stream(
        self, images: Iterable[Image], short_side: int | None, batch: int = 1
    ) -> Generator[tuple[list[Image], RawPredictions], None, None]:
        """The images of one video and their predictions, in order.

        If the first frame shows that the network carries nothing, it gets `batch` of the others at once.
        """
        images, state, size = iter(images), self.begin(1), 1
        while some := list(islice(images, size)):
            predictions, state = self.infer(some, short_side, state)
            yield some, predictions
            size = batch if state is None else 1


def detect(predictions: RawPredictions, config: TrackerConfig) -> list[Detections]:
    """The detections of each frame, after score filter, box and mask suppression."""
    probs: Floats = np.exp(-np.logaddexp(0, -predictions.logits))  # the sigmoid, without overflow
    boxes, identity = predictions.boxes, predictions.identity
    chosen = [
        select_queries(probs[b], None if boxes is None else boxes[b], config) for b in range(len(probs))
    ]
    select = np.zeros((len(probs), max(map(len, chosen))), np.int64)  # shorter rows end in query 0, unused
    for row, query in zip(select, chosen, strict=True):
        row[: len(query)] = query
    masks = predictions.masks(select)
    stride = predictions.height // masks.shape[-2]
    detections = []
    for b, query in enumerate(chosen):
        kept = suppress(mask_iou(masks[b, : len(query)] > 0), config.mask_nms)
        query = query[kept]
        box = None if boxes is None else boxes[b, query]
        mask = masks[b, kept]
        geometry = replace(predictions.geometries[b], stride=stride)
        places = mask_places(mask > 0, stride / geometry.resized_height)
        detections.append(
            Detections(
                probs[b, query],
                predictions.embed[b, query],
                places,
                query,
                box,
                mask,
                geometry,
                probs[b],
                cells=coarse_cells(mask > 0),
                identity=None if identity is None else identity[b, query],
            )
        )
    return detections
