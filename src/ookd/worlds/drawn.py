"""Video drawn on demand: a source of training clips and a data set with exact ground truth.

Worlds and composites differ only in their scenes, which implement `Drawable`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ookd.data import rle
from ookd.structures import Category, Clip, Dataset, Track, Video
from ookd.worlds.layers import Image, Mask

TRACKS = 1000  # object n of video i is track i * TRACKS + n + 1
_KEPT = 8  # scenes that stay in memory, for readers that go through a video in order


@dataclass(frozen=True)
class FrameTruth:
    """Exact masks of one frame; `full` is what each object would cover if nothing hid it."""

    visible: Mask  # [N, H, W]
    full: Mask  # [N, H, W]


class Drawable(Protocol):
    """One video as a function of time."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """The class of each object, [N]"""

    def frame(self, t: int) -> tuple[Image, Mask]:
        """Frame t [H, W, 3] RGB and its visible masks [N, H, W]."""

    def truth(self, t: int) -> FrameTruth:
        """The masks of frame t; nothing is painted."""


S = TypeVar("S", bound=Drawable)
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class RecentCache(Generic[K, V]):
    """Keeps the values used last. None of them travels to another process."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K, make: Callable[[], V]) -> V:
        if key not in self._held:
            self._held[key] = make()
            if len(self._held) > self._limit:
                self._held.popitem(last=False)
        self._held.move_to_end(key)
        return self._held[key]

    def __getstate__(self) -> dict[str, Any]:
        return {"_limit": self._limit, "_held": OrderedDict()}


class DrawnVideos(ABC, Generic[S]):
    """A clip source over scenes, each determined by its number."""

    def __init__(
        self, name: str, names: Sequence[str], videos: int, frames: int, size: tuple[int, int]
    ) -> None:
        self.name = name
        self.names: tuple[str, ...] = tuple(names)
        self.videos, self.frames = videos, frames
        self.height, self.width = size
        self._scenes: RecentCache[int, S] = RecentCache(_KEPT)

    @abstractmethod
    def make_scene(self, index: int) -> S:
        """Video `index`, from its number alone."""

    @property
    @abstractmethod
    def recipe(self) -> dict[str, Any]:
        """Everything needed to draw the same videos again; written with their annotations."""

    def __len__(self) -> int:
        return self.videos

    def scene(self, index: int) -> S:
        """The video as a function of time."""
        if not 0 <= index < len(self):
            raise IndexError(f"video {index} of {self.name}, which has {len(self)}")
        return self._scenes.get(index, lambda: self.make_scene(index))

    def video_name(self, index: int) -> str:
        return f"{self.name}-{index:05d}"

    def video_length(self, index: int) -> int:
        return self.frames

    def labels(self, index: int) -> list[int]:
        """The class of each object of a video; nothing is drawn."""
        return [int(label) for label in self.scene(index).labels]

    def class_counts(self) -> list[int]:
        """Number of objects of each class, including the few that are never visible."""
        labels = [label for index in range(len(self)) for label in self.labels(index)]
        return [int(count) for count in np.bincount(labels, minlength=len(self.names))]

    def clip(self, index: int, frames: Sequence[int]) -> Clip:
        """Draw these frames of a video, with the visible masks of every object that one of them shows."""
        if not all(0 <= t < self.frames for t in frames):
            raise IndexError(f"frames {list(frames)} of {self.video_name(index)}, which has {self.frames}")
        scene = self.scene(index)
        drawn = [scene.frame(int(t)) for t in frames]
        seen = np.flatnonzero(np.any([masks.any((1, 2)) for _, masks in drawn], axis=0))
        return Clip(
            images=[image for image, _ in drawn],
            masks=[masks[seen] for _, masks in drawn],
            labels=scene.labels[seen],
            ids=index * TRACKS + seen + 1,
            frames=np.asarray(frames, np.int64),
            video=self.video_name(index),
        )

    def dataset(self) -> Dataset:
        """Exact ground truth; nothing is painted. Objects that are never visible are left out.

        `Track.extra` holds `visibility`, the visible share of the object within the frame, and `occlusion`,
        the same as a level of OVIS.
        """
        categories = [Category(label + 1, name) for label, name in enumerate(self.names)]
        videos = [self._video(index) for index in range(len(self))]
        return Dataset(categories, videos, name=self.name, extra={"info": self.recipe})

    def _video(self, index: int) -> Video:
        scene = self.scene(index)
        truths = [scene.truth(t) for t in range(self.frames)]
        visible = np.stack([truth.visible for truth in truths], 1)  # [N, T, H, W]
        full = np.stack([truth.full for truth in truths], 1)
        name = self.video_name(index)
        video = Video(index + 1, self.width, self.height, [f"{name}/{t:05d}.jpg" for t in range(self.frames)])
        video.tracks = [
            _track(index * TRACKS + n + 1, int(label) + 1, visible[n], full[n])
            for n, label in enumerate(scene.labels)
            if visible[n].any()
        ]
        return video


def _track(number: int, category: int, visible: Mask, full: Mask) -> Track:
    areas = visible.sum((1, 2))
    shares = [round(float(share), 4) for share in areas / np.maximum(full.sum((1, 2)), 1)]
    masks = [rle.encode(mask) if area else None for mask, area in zip(visible, areas, strict=True)]
    return Track(
        number,
        category,
        masks,
        [None if mask is None else rle.box_xywh(mask) for mask in masks],
        [float(area) or None for area in areas],
        extra={"visibility": shares, "occlusion": [_ovis_level(share) for share in shares]},
    )


def _ovis_level(share: float) -> str:
    if share > 0.97:
        return "no_occlusion"
    return "slight_occlusion" if share > 0.5 else "severe_occlusion"
