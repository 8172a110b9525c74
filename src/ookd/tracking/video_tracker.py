"""One video, frame after frame: the only place where detections become identities, masks and results."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ookd.config.tracker import TrackerConfig
from ookd.data import rle
from ookd.errors import UserError
from ookd.masks import Bools, Floats, Ints
from ookd.structures import FrameResult, no_image
from ookd.tracking.associators import make_associator
from ookd.tracking.associators.associator import Memory
from ookd.tracking.results import VideoResults
from ookd.tracking.select import DetectionFeatures, Detections

NEWER = {"cells"}  # arrays missing from memories of earlier versions


class FullSize(Protocol):
    """Detections that can give masks [n, H, W] and boxes [n, 4] of some of them in the original frame."""

    @property
    def probs(self) -> Floats: ...  # [N, K]
    @property
    def query(self) -> Ints: ...  # [N]
    @property
    def everyone(self) -> Floats | None: ...  # [Q, K] class scores of all queries of the frame

    def full_size(self, rows: Ints) -> tuple[Bools, Floats]: ...


@dataclass(frozen=True, slots=True)
class ResultFilter:
    """Which of the tracked objects are shown. The others are still tracked."""

    labels: Collection[int] | None = None  # None: all
    score: float = 0.0


class VideoTracker:
    """Follows the objects of one video. Its only state is `memory`.

    With `final` it also collects the results of the whole video.
    """

    def __init__(
        self,
        config: TrackerConfig,
        names: Sequence[str] = (),
        *,
        show: ResultFilter | None = None,
        final: bool = False,
    ) -> None:
        self.names, self.show = names, show or ResultFilter()
        self.associator = make_associator(config)
        self.memory: Memory | None = None  # None before the first frame
        self._results = VideoResults(config) if final else None

    def identify(self, detections: DetectionFeatures) -> Ints:
        """The ids [N] of the next frame's detections, -1 for no object."""
        ids, self.memory = self.associator.step(self.memory, detections)
        return ids

    def step(self, detections: Detections, image: NDArray[np.uint8] | None = None) -> FrameResult:
        """The result for the next frame."""
        return self.answer(self.identify(detections), detections, image)

    def follow(self, frames: Iterable[tuple[Detections, NDArray[np.uint8] | None]]) -> Iterator[FrameResult]:
        """The result for each frame, in order."""
        yield from starmap(self.step, frames)

    def answer(self, ids: Ints, detections: FullSize, image: NDArray[np.uint8] | None) -> FrameResult:
        """The result for a frame whose ids [N] are decided, and which is the last one in the memory."""
        memory = self.memory
        assert memory is not None
        known = np.flatnonzero(ids >= 0)
        ids = ids[known]
        mean = memory.mean_probs(ids)
        labels, scores = mean.argmax(1), mean.max(1, initial=0)
        shown = scores >= self.show.score
        if self.show.labels is not None:
            shown &= np.isin(labels, list(self.show.labels))
        if self._results is None:
            masks, boxes = detections.full_size(known[shown])
        else:
            masks, boxes = detections.full_size(known)
            self._results.add(
                ids,
                detections.probs[known],
                rle.encode_many(masks),
                detections.query[known],
                detections.everyone,
            )
            if not shown.all():
                masks, boxes = masks[shown], boxes[shown]
        ids, labels, scores = ids[shown], labels[shown], scores[shown]
        shown_image = no_image() if image is None else image
        return FrameResult(memory.frame - 1, ids, labels, scores, boxes, masks, self.names, shown_image)

    @property
    def results(self) -> VideoResults:
        """The results of the whole video so far, if they are collected."""
        if self._results is None:
            raise UserError("this session collects no video results; make it with final=True")
        return self._results

    @property
    def state(self) -> dict[str, NDArray[Any]]:
        """The memory as named arrays; none before the first frame."""
        return {} if self.memory is None else self.memory.arrays()

    @state.setter
    def state(self, arrays: dict[str, NDArray[Any]]) -> None:
        if not arrays:
            self.memory = None
            return
        classes = len(self.names) or arrays.get("probs", np.zeros((0, 0))).shape[-1]
        example = self.associator.begin(classes, 1).arrays()
        if (fault := _misfit(arrays, example)) is not None:
            raise UserError(f"a saved memory does not fit this tracker: {fault}")
        self.memory = self.associator.memory.of_arrays(
            {name: array.astype(example[name].dtype) for name, array in arrays.items()}
        )


def _misfit(arrays: Mapping[str, NDArray[Any]], example: Mapping[str, NDArray[Any]]) -> str | None:
    """What is wrong with the arrays of a memory, compared with an empty one of one channel."""
    if odd := (arrays.keys() ^ example.keys()) - NEWER:
        return f"{', '.join(sorted(odd))} are missing or unknown"
    objects = {len(array) for name, array in arrays.items() if example[name].ndim and array.ndim}
    if len(objects) != 1:
        return "its arrays have different numbers of objects"
    channels = arrays["embeds"].shape[-1:] if "embeds" in arrays else ()
    for name, array in arrays.items():
        shape = example[name].shape[1:]
        if name in ("embeds", "whole"):
            shape = (*shape[:-1], *channels)
        elif name == "cells":
            shape = array.shape[1:2]
        if array.shape[1:] != shape or array.ndim != example[name].ndim:
            return f"{name} is {list(array.shape)}"
        if array.dtype.kind != example[name].dtype.kind or not np.isfinite(array).all():
            return f"{name} holds no finite numbers of its kind"
    if (arrays["seen"] < 1).any() or (np.diff(arrays["ids"]) < 1).any():
        return "its objects are not in order"
    return None
