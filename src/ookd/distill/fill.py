"""Fill a cache: run the teacher once on every training video of a recipe, and keep its answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ookd.clips.opening import class_names, open_source
from ookd.clips.sources import ClipSource
from ookd.config import Distill, Recipe
from ookd.distill.cache import CachedWindow, TeacherCache, cache_key
from ookd.distill.qfa import keep_sure
from ookd.distill.task import check_recipe
from ookd.distill.teacher import LiveTeacher
from ookd.locking import locked
from ookd.structures import ClipQueries
from ookd.tracking.torch_model import device_named, prepare

FRAMES = 48  # in a window
OVERLAP = 16  # of windows, so that a student's pair of frames nearer than this lies within one
LONGEST = 128  # cells of a mask's long side


class FillPlan:
    """What is missing from a recipe's cache."""

    def __init__(self, recipe: Recipe, device: str = "auto") -> None:
        assert recipe.distill is not None
        assert recipe.distill.cache is not None
        check_recipe(recipe.distill)
        self.spec = recipe.distill
        self.sources = [open_source(data) for data in recipe.data.train]
        self.teacher = LiveTeacher(recipe.distill, class_names(recipe, self.sources))
        self.device = device_named(device)
        self.bf16 = recipe.run.precision == "bf16"
        self.teacher.model.to(self.device)
        key = cache_key(self.teacher.model, recipe.data, recipe.distill)
        self.cache = TeacherCache(Path(recipe.distill.cache), key)
        self._left = [
            (source, i)
            for source in self.sources
            for i in range(len(source))
            if source.clip(i, [0]).video not in self.cache
        ]
        self.missing = len(self._left)
        self.missing_frames = sum(source.video_length(i) for source, i in self._left)

    def run(self, on_video: Callable[[int, int], None] = lambda frames, estimate: None) -> None:
        """Add what is missing. A stopped run keeps the videos that are done.

        `on_video` is called after each video with the number of its frames, and an estimate of the bytes that
        all missing videos will take.
        """
        frames = size = 0
        with locked(self.cache.folder):
            try:
                for source, i in self._left:
                    with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                        windows = list(self._windows(source, i))
                    self.cache.add(source.clip(i, [0]).video, windows)
                    frames += source.video_length(i)
                    size += sum(window.bytes for window in windows)
                    on_video(source.video_length(i), round(size / frames * self.missing_frames))
            finally:
                self.cache.flush()

    def _windows(self, source: ClipSource, video: int) -> Iterator[CachedWindow]:
        length = source.video_length(video)
        for first in window_starts(length):
            images = source.clip(video, range(first, min(first + FRAMES, length))).images
            yield infer_window(self.teacher, first, images, self.spec, self.cache.key.short_side)


def window_starts(length: int) -> list[int]:
    """First frames of the windows of a video; the last one ends where the video does."""
    if length <= FRAMES:
        return [0]
    return [*range(0, length - FRAMES, FRAMES - OVERLAP), length - FRAMES]


@torch.inference_mode()
def infer_window(
    teacher: LiveTeacher,
    first: int,
    images: Sequence[NDArray[np.uint8]],
    spec: Distill,
    short_side: int | None,
) -> CachedWindow:
    """The teacher's answer about a window, filtered."""
    device = next(teacher.model.parameters()).device
    preprocessing = teacher.family.preprocessing
    frames, pad, geometries = prepare(images, short_side, preprocessing, device)
    answer: ClipQueries = teacher.model(preprocessing.normalise(frames, pad)[None], pad[None])
    known = ClipQueries(
        teacher.in_student_order(answer.logits), None, answer.features, answer.frame_features, answer.masks
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
    return CachedWindow(
        first,
        answer.logits[0, query].half().cpu(),
        answer.features[0, query].half().cpu(),
        answer.frame_features[0, :, query].half().cpu(),
        _compact(logits[..., :rows, :columns].sigmoid()).cpu(),
        extent,
    )


def _compact(masks: Tensor) -> Tensor:
    """Probabilities [M, T, h, w] as uint8, no larger than needed."""
    scale = min(1.0, LONGEST / max(masks.shape[-2:]))
    size = [max(1, round(side * scale)) for side in masks.shape[-2:]]
    if len(masks) and scale < 1:
        masks = F.interpolate(masks, size, mode="area")
    return (masks * 255).round().to(torch.uint8)
