"""A YOLO segmentation network exported to OpenVINO, as a `FrameModel` that our trackers can follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ookd.config.tracker import TrackerConfig
from ookd.masks import Floats, Geometry, Ints
from ookd.tracking.frame_model import FrameModel, Image, RawPredictions, State
from ookd.tracking.select import box_iou, suppress

LEAST = 0.01  # score of a detection
ALIKE = 0.7  # box IoU above which the lower-scored of two detections of a class is dropped, as `yolo` has it
MOST = 100  # detections of a frame
ABSENT = -20.0  # logit of what is not there


@dataclass(frozen=True, slots=True)
class YoloTracker:
    """What `association` needs of a model."""

    network: FrameModel
    names: Sequence[str]
    config: TrackerConfig

    def online(self) -> tuple[FrameModel, TrackerConfig]:
        return self.network, self.config


class YoloNetwork(FrameModel):
    """Frames must have the size of the exported graph. It tells no two objects of a class apart."""

    def __init__(self, folder: Path) -> None:
        import openvino

        (graph,) = folder.glob("*.xml")
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
        self.compiled = openvino.Core().compile_model(graph, "CPU", settings)

    def infer(
        self, images: Sequence[Image], short_side: int | None, state: State | None = None
    ) -> tuple[RawPredictions, None]:
        frames = [self._frame(image) for image in images]

        def masks(select: Ints) -> Floats:
            found: Floats = np.stack([frame.masks(row) for frame, row in zip(frames, select, strict=True)])
            return found

        height, width = images[0].shape[:2]
        logits, boxes = np.stack([frame.logits for frame in frames]), np.stack([f.boxes for f in frames])
        nothing = np.zeros((*boxes.shape[:2], 1), np.float32)
        geometries = [Geometry(height, width, height, width)] * len(images)
        return RawPredictions(logits, boxes, nothing, masks, height, geometries), None

    def _frame(self, image: Image) -> _Frame:
        height, width = image.shape[:2]
        rows, prototypes = self.compiled(image.transpose(2, 0, 1)[None].astype(np.float32) / 255).values()
        classes = rows.shape[1] - 4 - prototypes.shape[1]
        boxes, scores, parts = np.split(rows[0].T, [4, 4 + classes], 1)
        boxes = boxes / np.array([width, height, width, height], np.float32)
        kept = _kept(boxes, scores)
        scores = scores[kept].clip(1e-6, 1 - 1e-6)
        return _Frame(
            _padded(np.log(scores) - np.log1p(-scores), ABSENT),
            _padded(boxes[kept], 0),
            _padded(parts[kept], 0),
            prototypes[0],
        )


@dataclass(frozen=True, slots=True)
class _Frame:
    """The best detections of a frame, padded to as many as are kept at most."""

    logits: Floats  # [MOST, K]
    boxes: Floats  # [MOST, 4]
    parts: Floats  # [MOST, P] the share of each prototype in a mask
    prototypes: Floats  # [P, h, w]

    def masks(self, select: Ints) -> Floats:
        """[N, h, w] logits, which end at a detection's box."""
        whole = np.tensordot(self.parts[select], self.prototypes, 1)
        x, y = ((np.arange(side) + 0.5) / side for side in (whole.shape[2], whole.shape[1]))
        box = self.boxes[select]
        across = np.abs(x - box[:, :1]) <= box[:, 2:3] / 2
        down = np.abs(y - box[:, 1:2]) <= box[:, 3:] / 2
        masks: Floats = np.where(down[:, :, None] & across[:, None], whole, np.float32(ABSENT))
        return masks


def _padded(rows: Floats, value: float) -> Floats:
    padded: Floats = np.full((MOST, rows.shape[1]), value, np.float32)
    padded[: len(rows)] = rows
    return padded


def _kept(boxes: Floats, scores: Floats) -> Ints:
    """Rows of the detections, best first."""
    best = scores.max(1)
    order = np.argsort(-best, kind="stable")
    order = order[best[order] > LEAST]
    labels = scores[order].argmax(1)
    return order[suppress(box_iou(boxes[order]) * (labels[:, None] == labels), ALIKE)][:MOST]
