"""Does an exported model say what its PyTorch model says? Frame by frame, and in AP over scenes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from ookd.config.tracker import TrackerConfig
from ookd.data.formats import load as load_data
from ookd.deploy.folder import Precision
from ookd.errors import UserError
from ookd.evaluation.run import evaluate
from ookd.models.protocols import OnlineModel
from ookd.structures import Dataset
from ookd.tracking.frame_model import FrameModel, Image, detect
from ookd.tracking.predict import category_ids, predict_video, recordings
from ookd.tracking.torch_model import TorchFrameModel, device_of
from ookd.worlds import PRESETS, World

Source = Dataset | World
SEED = 9  # of the scenes; training worlds have seed 0


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well two networks agree, on average over those detections of the first that may begin an object."""

    overlap: float  # IoU of a detection's mask with the likest one of the other network
    score: float  # distance of their class scores, largest over classes


# what an export must reach in each precision
REQUIRED: dict[Precision, Agreement] = {
    "fp32": Agreement(0.999, 0.001),
    "fp16": Agreement(0.99, 0.01),
    "bf16": Agreement(0.95, 0.03),
    "int8": Agreement(0.90, 0.06),
}


def source_of(data: str, split: str, videos: int, size: tuple[int, int]) -> Source:
    """The first videos of annotated data, or so many of a synthetic world."""
    if data in PRESETS:
        return World(data, split=split, seed=SEED, videos=videos, height=size[0], width=size[1])
    dataset = load_data(Path(data), None, None)
    dataset.videos = dataset.videos[:videos]
    return dataset


def some_images(source: Source, count: int) -> list[Image]:
    """So many images, spread over the videos."""
    videos = recordings(source)
    each = -(-count // len(videos))
    return [image for video in videos for image in islice(video.images(), each)][:count]


def agreement(
    model: OnlineModel, eye: FrameModel, images: Iterable[Image], config: TrackerConfig
) -> Agreement:
    reference = TorchFrameModel(model, device_of(model))
    overlaps, scores = [], []
    for image in images:
        ours, theirs = (
            detect(one.look([image], config.short_side)[0], config)[0][0] for one in (reference, eye)
        )
        a, b = (seen.masks.reshape(len(seen), -1) > 0 for seen in (ours, theirs))
        shared = a.astype(np.float32) @ b.T.astype(np.float32)
        union = a.sum(1)[:, None] + b.sum(1) - shared
        iou = np.where(union > 0, shared / np.maximum(union, 1), 1.0)
        likest = iou.argmax(1)
        sure = slice(max(int((ours.scores > config.new_score).sum()), 1))  # the best first, and at least it
        overlaps += list(iou.max(1)[sure])
        scores += list(np.abs(ours.probs - theirs.probs[likest]).max(1)[sure])
    return Agreement(float(np.mean(overlaps)), float(np.mean(scores)))


def require(found: Agreement, precision: Precision) -> None:
    """Raise if the exported model differs too much."""
    needed = REQUIRED[precision]
    if not (found.overlap >= needed.overlap and found.score <= needed.score):
        raise UserError(
            f"not written, for the exported model differs from its source: masks overlap {found.overlap:.4f} "
            f"and scores differ by {found.score:.4f}, where {precision} must reach {needed.overlap} and "
            f"{needed.score}"
        )


def shared_classes(source: Source, names: list[str]) -> list[int | None]:
    """The source's number of each of the model's classes."""
    try:
        return category_ids(source, names)
    except UserError as error:
        raise UserError(f"{error}; name annotated videos with --data, or say --scenes 0") from None


def average_precision(
    model: OnlineModel | FrameModel,
    source: Source,
    config: TrackerConfig,
    names: list[str],
    told: Callable[[], None] = lambda: None,
) -> float:
    """Track AP on the source, 0..1."""
    categories = shared_classes(source, names)
    results = [
        result
        for recording in recordings(source)
        for result in predict_video(model, recording, config, told).tracks(recording.id, categories)
    ]
    return evaluate(source if isinstance(source, Dataset) else source.dataset(), results).ap
