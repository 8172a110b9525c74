"""Endless labelled video, drawn when asked for: any frame of any video, the same bits every time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ookd.data import rle
from ookd.data.synthetic.config import SPLITS, WorldConfig, resolve
from ookd.data.synthetic.scene import Scene
from ookd.data.synthetic.species import NAMES
from ookd.errors import UserError
from ookd.structures import Category, Clip, Dataset, Track, Video

_TRACKS = 1000  # track ids of video i start above i * _TRACKS
_KEPT = 8  # scenes whose looks stay in memory, for readers that go through a video in order


class World:
    """A split of a synthetic world. Different splits and seeds draw from independent random streams.

    >>> world = World("identity", split="val", videos=100)
    >>> clip = world.clip(0, [3, 4, 9])
    """

    def __init__(
        self,
        config: str | WorldConfig = "ytvis-like",
        split: str = "train",
        seed: int = 0,
        videos: int = 100,
        **changes: Any,
    ) -> None:
        if split not in SPLITS:
            raise UserError(f"unknown split '{split}'; a world has {', '.join(SPLITS)}")
        if seed < 0 or videos < 1:
            raise UserError(f"a world needs seed >= 0 and videos >= 1, not seed {seed} and {videos} videos")
        self.config = resolve(config, changes)
        self.split, self.seed, self.videos = split, seed, videos
        self.name = f"{config if isinstance(config, str) else 'world'}-{split}-{seed}"
        self.names: tuple[str, ...] = NAMES
        self._scenes: OrderedDict[int, Scene] = OrderedDict()

    def __len__(self) -> int:
        return self.videos

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_scenes": OrderedDict()}

    def video_length(self, index: int) -> int:
        self._check(index)
        return self.config.frames

    def labels(self, index: int) -> list[int]:
        """The class of each object cast in a video; nothing is drawn."""
        return [int(label) for label in self.scene(index).cast.labels]

    def scene(self, index: int) -> Scene:
        """The video as a function of time, with full masks and poses for statistics."""
        self._check(index)
        if index not in self._scenes:
            self._scenes[index] = Scene(self.config, (self.seed, SPLITS.index(self.split), index))
            if len(self._scenes) > _KEPT:
                self._scenes.popitem(last=False)
        self._scenes.move_to_end(index)
        return self._scenes[index]

    def clip(self, index: int, frames: Sequence[int]) -> Clip:
        """Draw these frames of a video, with the visible masks of every object seen in one of them."""
        scene = self.scene(index)
        drawn = [scene.frame(self._frame(index, t)) for t in frames]
        seen = np.flatnonzero(np.any([masks.any((1, 2)) for _, masks in drawn], axis=0))
        return Clip(
            images=[image for image, _ in drawn],
            masks=[masks[seen] for _, masks in drawn],
            labels=scene.cast.labels[seen],
            ids=index * _TRACKS + seen + 1,
            frames=np.asarray(frames, np.int64),
            video=self.video_name(index),
        )

    def video_name(self, index: int) -> str:
        return f"{self.name}-{index:05d}"

    def class_counts(self) -> list[int]:
        """How many objects of each class the split casts."""
        counts = np.zeros(len(self.names), np.int64)
        for index in range(len(self)):
            np.add.at(counts, self.labels(index), 1)
        return [int(count) for count in counts]

    def dataset(self) -> Dataset:
        """Exact ground truth of the split; nothing is painted. Objects that are never seen are left out.

        `Track.extra` holds `visibility`, the share of the object within the frame that can be seen, and
        `occlusion`, the same in the words of OVIS.
        """
        categories = [Category(label + 1, name) for label, name in enumerate(self.names)]
        return Dataset(categories, [self._video(index) for index in range(len(self))], name=self.name)

    def _video(self, index: int) -> Video:
        scene, config = self.scene(index), self.config
        truths = [scene.truth(t) for t in range(config.frames)]
        visible = np.stack([truth.visible for truth in truths], 1)  # [N, T, H, W]
        areas = visible.sum((2, 3))
        full = np.stack([truth.full for truth in truths], 1).sum((2, 3))
        names = [f"{self.video_name(index)}/{t:05d}.jpg" for t in range(config.frames)]
        video = Video(index + 1, config.width, config.height, names)
        for i, label in enumerate(scene.cast.labels):
            if areas[i].any():
                share = areas[i] / np.maximum(full[i], 1)
                track = _track(index * _TRACKS + i + 1, int(label) + 1, visible[i], areas[i], share)
                video.tracks.append(track)
        return video

    def _check(self, index: int) -> None:
        if not 0 <= index < len(self):
            raise IndexError(f"video {index} of a world of {len(self)}")

    def _frame(self, index: int, t: int) -> int:
        if not 0 <= t < self.config.frames:
            raise IndexError(f"frame {t} of {self.video_name(index)}, which has {self.config.frames}")
        return int(t)


def _track(
    track_id: int,
    category: int,
    masks: NDArray[np.bool_],
    areas: NDArray[np.int64],
    share: NDArray[np.float64],
) -> Track:
    encoded = [rle.encode(mask) if area else None for mask, area in zip(masks, areas, strict=True)]
    return Track(
        track_id,
        category,
        encoded,
        [None if one is None else rle.box_xywh(one) for one in encoded],
        [float(area) or None for area in areas],
        extra={
            "visibility": [round(float(s), 4) for s in share],
            "occlusion": [_ovis_level(s) for s in share],
        },
    )


def _ovis_level(share: float) -> str:
    if share > 0.97:
        return "no_occlusion"
    return "slight_occlusion" if share > 0.5 else "severe_occlusion"
