"""Which queries of a frame are tracked: those above a score, without overlapping boxes and masks.

Everything here keeps the order of descending score, which association relies on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ookd.config.tracker import TrackerConfig
from ookd.masks import Bools, Floats, Geometry, Ints, full_size


@dataclass(frozen=True, slots=True)
class DetectionFeatures:
    """What association uses of the N selected queries of a frame, best first."""

    probs: Floats  # [N, K] class scores
    embeds: Floats  # [N, D]
    places: Floats  # [N, 3] centre x, y and side of the mask, in frame heights
    query: Ints  # [N] which query of the model
    cells: Bools | None = field(default=None, kw_only=True)  # [N, c] the masks, coarse
    # [N] the object that each holds, -1 for none, if the model reports it
    identity: Ints | None = field(default=None, kw_only=True)

    @property
    def scores(self) -> Floats:
        """[N] best class score."""
        best: Floats = self.probs.max(1, initial=0)
        return best

    def at(self, rows: Ints) -> DetectionFeatures:
        """Some of them."""
        cells = None if self.cells is None else self.cells[rows]
        identity = None if self.identity is None else self.identity[rows]
        return DetectionFeatures(
            self.probs[rows],
            self.embeds[rows],
            self.places[rows],
            self.query[rows],
            cells=cells,
            identity=identity,
        )

    def __len__(self) -> int:
        return len(self.probs)


@dataclass(frozen=True, slots=True)
class Detections(DetectionFeatures):
    """The same with boxes and masks."""

    boxes: Floats | None  # [N, 4] cx cy w h in 0..1, if the model has boxes
    masks: Floats  # [N, h, w] mask logits
    geometry: Geometry  # of the frame
    everyone: Floats | None = None  # [Q, K] class scores of all queries of the frame

    def full_size(self, rows: Ints) -> tuple[Bools, Floats]:
        """Masks [n, H, W] of some of them in the original frame, and their tight boxes [n, 4]."""
        return full_size(self.masks[rows], self.geometry)


def select_queries(probs: Floats, boxes: Floats | None, config: TrackerConfig) -> Ints:
    """The queries [Q, K] that get a mask, best first.

    They are above the score, and of two near-identical boxes of one class only the better one is kept. If no
    query is above the score, the single best one is kept: it may still continue a track.
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
    """Which of n rows, best first, to keep. A kept row removes the later ones that overlap it too much."""
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


def coarse_cells(masks: Bools) -> Bools:
    """Masks [N, h, w] as rows [N, c] of every second cell on either axis."""
    coarse: Bools = masks[:, 1::2, 1::2].reshape(len(masks), -1)
    return coarse


def mask_places(masks: Bools, cell: float) -> Floats:
    """Centre x, y and side (root of the area) of masks [N, h, w] with cells of this side -> [N, 3]."""
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
