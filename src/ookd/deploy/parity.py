"""Does an exported model agree with its PyTorch model? Frame by frame, and in track AP."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from ookd.config.tracker import TrackerConfig
from ookd.data.formats import find, load_source
from ookd.deploy.folder import Precision
from ookd.errors import UserError
from ookd.evaluation.run import evaluate
from ookd.models.protocols import OnlineModel
from ookd.structures import Dataset
from ookd.tracking.frame_model import FrameModel, Image, detect
from ookd.tracking.predict import predict
from ookd.tracking.recordings import category_ids, recordings
from ookd.tracking.torch_model import TorchFrameModel
from ookd.worlds import PRESETS, World

Videos = Dataset | World
SEED = 9  # of the scenes; training worlds have seed 0


@dataclass(frozen=True, slots=True)
class Parity:
    """How well two models agree, averaged over the first model's detections that may start an object."""

    mask_iou: float  # with the most similar detection of the other model
    score_difference: float  # the largest over classes


# what an export must reach in each precision
REQUIRED: dict[Precision, Parity] = {
    "fp32": Parity(0.999, 0.001),
    "fp16": Parity(0.99, 0.01),
    "bf16": Parity(0.95, 0.03),
    "int8": Parity(0.90, 0.06),
}


def open_videos(data: str, split: str, count: int, size: tuple[int, int]) -> Videos:
    """The first `count` annotated videos of a data set, or as many of a synthetic world.

    Of data in several parts that is the `split`, else what is there for validation, else the first part.
    """
    if data in PRESETS:
        return World(data, split=split, seed=SEED, videos=count, height=size[0], width=size[1])
    parts = {source.split: source for source in reversed(find(Path(data)))}
    dataset = load_source(parts.get(split) or parts.get("val") or [*parts.values()][-1])
    dataset.videos = dataset.videos[:count]
    return dataset


def sample_images(videos: Videos, count: int) -> list[Image]:
    """`count` images, spread over the videos."""
    found = recordings(videos)
    each = -(-count // len(found))
    return [image for video in found for image in islice(video.images(), each)][:count]


def compare(
    model: OnlineModel, exported: FrameModel, images: Iterable[Image], config: TrackerConfig
) -> Parity:
    """Over images in a row: each model carries its own state, so differences add up."""
    models: list[FrameModel] = [TorchFrameModel(model), exported]
    states = [one.begin(1) for one in models]
    ious: list[float] = []
    differences: list[float] = []
    for image in images:
        answers = [
            one.infer([image], config.short_side, state) for one, state in zip(models, states, strict=True)
        ]
        states = [state for _, state in answers]
        ours, theirs = (detect(predictions, config)[0] for predictions, _ in answers)
        a, b = (found.masks.reshape(len(found), -1) > 0 for found in (ours, theirs))
        shared = a.astype(np.float32) @ b.T.astype(np.float32)
        union = a.sum(1)[:, None] + b.sum(1) - shared
        iou = np.where(union > 0, shared / np.maximum(union, 1), 1.0)
        nearest = iou.argmax(1)
        # detections are sorted by score; the best one always counts
        confident = slice(max(int((ours.scores > config.new_score).sum()), 1))
        ious += list(iou.max(1)[confident])
        differences += list(np.abs(ours.probs - theirs.probs[nearest]).max(1)[confident])
    return Parity(float(np.mean(ious)), float(np.mean(differences)))


def require(found: Parity, precision: Precision) -> None:
    """Raise if the exported model differs too much."""
    needed = REQUIRED[precision]
    # also false for NaN
    if not (found.mask_iou >= needed.mask_iou and found.score_difference <= needed.score_difference):
        raise UserError(
            f"not written, because the exported model differs from its source: masks overlap "
            f"{found.mask_iou:.4f} and scores differ by {found.score_difference:.4f}; {precision} must reach "
            f"{needed.mask_iou} and {needed.score_difference}"
        )


def shared_classes(videos: Videos, names: list[str]) -> list[int | None]:
    """The videos' category number of each of the model's classes."""
    try:
        return category_ids(videos, names)
    except UserError as error:
        raise UserError(f"{error}; name annotated videos with --data, or add --scenes 0") from None


def track_ap(
    model: OnlineModel | FrameModel,
    videos: Videos,
    config: TrackerConfig,
    names: list[str],
    on_frame: Callable[[], None] = lambda: None,
) -> float:
    """Track AP on the videos, 0..1."""
    shared_classes(videos, names)
    results = predict(model, videos, config, names, on_frame)
    return evaluate(videos if isinstance(videos, Dataset) else videos.dataset(), results).ap
