"""What tracking asks of a network, in plain arrays, so that the network may live in any runtime."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ookd.config.tracker import TrackerConfig
from ookd.errors import UserError
from ookd.masks import Geometry
from ookd.tracking.select import Detections, Floats, Ints, mask_iou, mask_places, select_queries, suppress

Image = NDArray[np.uint8]  # [H, W, 3] RGB


@dataclass(frozen=True, slots=True)
class RawPredictions:
    """What a network says about B frames that were resized and padded to one size."""

    logits: Floats  # [B, Q, K] before the sigmoid
    boxes: Floats | None  # [B, Q, 4] cx cy w h in 0..1 of the unpadded frame
    embed: Floats  # [B, Q, D]
    masks: Callable[[Ints], Floats]  # select [B, N] -> mask logits [B, N, h, w]
    height: int  # of the padded frames
    geometries: Sequence[Geometry]  # B, their mask stride still unknown


class FrameModel(ABC):
    """A network with the way into it and out of it."""

    @abstractmethod
    def look(
        self, images: Sequence[Image], short_side: int | None, state: Any = None
    ) -> tuple[RawPredictions, Any]:
        """What the network sees in images shown at this size, and what it carries to the next ones."""

    def stream(
        self, images: Iterable[Image], short_side: int | None
    ) -> Generator[tuple[Image, RawPredictions], None, None]:
        """The images of one video with what is seen in them, in order."""
        state = None
        for image in images:
            sight, state = self.look([image], short_side, state)
            yield image, sight


def detect(sight: RawPredictions, config: TrackerConfig) -> tuple[list[Detections], list[Geometry]]:
    """The detections of each frame, after score filter, box and mask suppression."""
    probs: Floats = np.exp(-np.logaddexp(0, -sight.logits))  # the sigmoid, without overflow
    boxes = sight.boxes
    chosen = [
        select_queries(probs[b], None if boxes is None else boxes[b], config) for b in range(len(probs))
    ]
    select = np.zeros((len(probs), max(map(len, chosen))), np.int64)  # shorter rows end in query 0, unused
    for row, query in zip(select, chosen, strict=True):
        row[: len(query)] = query
    masks = sight.masks(select)
    stride = sight.height // masks.shape[-2]
    geometries = [replace(geometry, stride=stride) for geometry in sight.geometries]
    detections = []
    for b, query in enumerate(chosen):
        kept = suppress(mask_iou(masks[b, : len(query)] > 0), config.mask_nms)
        query = query[kept]
        box = None if boxes is None else boxes[b, query]
        mask = masks[b, kept]
        places = mask_places(mask > 0, stride / geometries[b].resized_height)
        detections.append(Detections(probs[b, query], sight.embed[b, query], places, query, box, mask))
    return detections, geometries


def check_image(image: Image) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise UserError(f"a frame must be uint8 [height, width, 3] RGB, not {image.dtype} {image.shape}")
