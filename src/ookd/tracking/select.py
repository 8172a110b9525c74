"""Which queries of a frame are looked at: a score filter, then box and mask suppression.

Everything here keeps the order of descending score, which association relies on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ookd.config.tracker import TrackerConfig

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class DetectionFeatures:
    """What association reads of the N queries of a frame that may be objects, best first."""

    probs: Floats  # [N, K] class scores
    embeds: Floats  # [N, D]
    places: Floats  # [N, 3] centre x, y and side of the mask, in frame heights

    @property
    def scores(self) -> Floats:
        """[N] best class score."""
        best: Floats = self.probs.max(1, initial=0)
        return best

    def __len__(self) -> int:
        return len(self.probs)


@dataclass(frozen=True, slots=True)
class Detections(DetectionFeatures):
    """And what else is known of them."""

    query: Ints  # [N] which query of the model
    boxes: Floats | None  # [N, 4] cx cy w h in 0..1, if the model has boxes
    masks: Floats  # [N, h, w] mask logits


def select_queries(probs: Floats, boxes: Floats | None, config: TrackerConfig) -> Ints:
    """Queries [Q, K] worth a mask, best first: above the score, without near-identical boxes of one class.

    A frame without any such query gives its single best one, which is too weak to begin a track but may
    still continue one.
    """
    scores = probs.max(1, initial=0)  # [Q]
    order = np.argsort(-scores, kind="stable")
    above = order[: max(int((scores > config.select_score).sum()), 1)]
    if boxes is None or len(above) < 2:
        return above
    labels = probs[above].argmax(1)
    same_class = labels[:, None] == labels
    return above[suppress(box_iou(boxes[above]) * same_class, config.box_nms)]


def suppress(iou: Floats, limit: float) -> Ints:
    """Which of n ordered rows to keep: a kept row removes the later ones that overlap it above the limit."""
    kept = np.ones(len(iou), bool)
    for row in np.flatnonzero((np.triu(iou, 1) > limit).any(1)):
        if kept[row]:
            kept[row + 1 :] &= iou[row, row + 1 :] <= limit
    return np.flatnonzero(kept)


def box_iou(boxes: Floats) -> Floats:
    """IoU [n, n] of boxes [n, 4] cx cy w h."""
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    sides = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)  # [n, n, 2]
    inter = sides.clip(min=0).prod(-1)
    area = (high - low).prod(-1)
    iou: Floats = inter / np.maximum(area[:, None] + area - inter, np.finfo(np.float32).tiny)
    return iou


def mask_places(masks: Bools, cell: float) -> Floats:
    """Centre x, y and side (root of the area) of masks [N, h, w] whose cells have this side -> [N, 3]."""
    down, across = masks.sum(2), masks.sum(1)  # [N, h], [N, w]
    area = down.sum(1)
    y, x = ((along @ (np.arange(along.shape[1]) + 0.5)) / np.maximum(area, 1) for along in (down, across))
    return (cell * np.stack([x, y, np.sqrt(area)], 1)).astype(np.float32)


def mask_iou(masks: Bools) -> Floats:
    """IoU [n, n] of masks [n, h, w] as one matrix product. Two empty masks count as the same."""
    flat = masks.reshape(len(masks), -1).astype(np.float32)
    inter = flat @ flat.T
    area = inter.diagonal()
    iou: Floats = (inter + 1e-6) / (area[:, None] + area - inter + 1e-6)
    return iou
