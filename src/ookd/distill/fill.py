"""Ask a teacher once about every video of a recipe's training data, and keep the answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ookd.config import Data, DataSource, Distill, Recipe
from ookd.data.clips import ClipSource
from ookd.distill.cache import Cache, Subject, Window, fingerprint
from ookd.distill.qfa import keep_sure
from ookd.distill.teacher import LiveTeacher
from ookd.models.preprocess import normalise
from ookd.structures import ClipQueries
from ookd.tracking.observe import device_named, prepare

FRAMES = 48  # seen at once
SHARED = 16  # with the window before; a student's pair of frames nearer than this lies within one window
LONGEST = 128  # cells of a mask's long side


def subject(teacher: LiveTeacher, data: Data, spec: Distill) -> Subject:
    """What a cache for this recipe must be of."""
    return Subject(
        fingerprint(teacher.model),
        [_identity(source) for source in data.train],
        spec.filter.min_score,
        spec.filter.tube_nms,
        max(data.augment.sides) if data.augment.sides else None,
    )


def _identity(source: DataSource) -> dict[str, object]:
    """What determines the pixels of a video. More videos of the same world begin with the same ones."""
    other = {"ratio", "videos", "unlabelled", "augment"}
    own: dict[str, object] = source.model_dump(exclude=other, exclude_none=True)
    return own


class FillPlan:
    """What a recipe's cache lacks."""

    def __init__(self, recipe: Recipe, device: str = "auto") -> None:
        from ookd.engine.build import class_names, open_source  # which builds on this room

        assert recipe.distill is not None
        assert recipe.distill.cache is not None
        self.spec = recipe.distill
        self.sources = [open_source(data) for data in recipe.data.train]
        self.teacher = LiveTeacher(recipe.distill.teacher, class_names(recipe, self.sources))
        self.device = device_named(device)
        self.bf16 = recipe.run.precision == "bf16"
        self.teacher.model.to(self.device)
        self.cache = Cache(Path(recipe.distill.cache), subject(self.teacher, recipe.data, recipe.distill))
        self._left = [
            (source, i)
            for source in self.sources
            for i in range(len(source))
            if source.clip(i, [0]).video not in self.cache
        ]
        self.missing = len(self._left)
        self.missing_frames = sum(source.video_length(i) for source, i in self._left)

    def run(self, told: Callable[[int, int], None] = lambda frames, estimate: None) -> None:
        """Add what is missing. Stopped, it keeps what it has.

        `told` hears after each video how many frames it has and how many bytes all missing ones will take.
        """
        frames = size = 0
        try:
            for source, i in self._left:
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                    windows = list(_video(self.teacher, source, i, self.spec, self.cache.subject.short_side))
                self.cache.add(source.clip(i, [0]).video, windows)
                frames += source.video_length(i)
                size += sum(window.bytes for window in windows)
                told(source.video_length(i), round(size / frames * self.missing_frames))
        finally:
            self.cache.flush()


def _video(
    teacher: LiveTeacher, source: ClipSource, i: int, spec: Distill, short_side: int | None
) -> Iterator[Window]:
    length = source.video_length(i)
    for first in starts(length):
        images = source.clip(i, range(first, min(first + FRAMES, length))).images
        yield look(teacher, first, images, spec, short_side)


def starts(length: int) -> list[int]:
    """First frames of the windows of a video; the last one ends where the video does."""
    if length <= FRAMES:
        return [0]
    return [*range(0, length - FRAMES, FRAMES - SHARED), length - FRAMES]


@torch.inference_mode()
def look(
    teacher: LiveTeacher,
    first: int,
    images: Sequence[NDArray[np.uint8]],
    spec: Distill,
    short_side: int | None,
) -> Window:
    """What the teacher knows of a window, filtered."""
    device = next(teacher.model.parameters()).device
    frames, pad, geometries = prepare(images, short_side, device)
    answer: ClipQueries = teacher.model(normalise(frames, pad)[None], pad[None])
    known = ClipQueries(
        teacher.in_order(answer.logits), None, answer.features, answer.frame_features, answer.masks
    )
    query = keep_sure(known, 0, spec.filter.model_copy(update={"kind": "sure"})).query
    logits = answer.masks(query[None])[0].float()  # [M, T, h, w]
    geometry = geometries[0]
    stride = frames.shape[-2] // logits.shape[-2]
    rows, columns = -(-geometry.resized_height // stride), -(-geometry.resized_width // stride)
    extent = torch.tensor(
        [
            columns * stride * geometry.width / geometry.resized_width,
            rows * stride * geometry.height / geometry.resized_height,
        ]
    )
    return Window(
        first,
        answer.logits[0, query].half().cpu(),
        answer.features[0, query].half().cpu(),
        answer.frame_features[0, :, query].half().cpu(),
        _small(logits[..., :rows, :columns].sigmoid()).cpu(),
        extent,
    )


def _small(masks: Tensor) -> Tensor:
    """Probabilities [M, T, h, w] as uint8, no larger than need be."""
    scale = min(1.0, LONGEST / max(masks.shape[-2:]))
    size = [max(1, round(side * scale)) for side in masks.shape[-2:]]
    if len(masks) and scale < 1:
        masks = F.interpolate(masks, size, mode="area")
    return (masks * 255).round().to(torch.uint8)
