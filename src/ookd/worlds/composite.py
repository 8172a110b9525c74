"""Crowded scenes of real objects: tracks of a data set pasted over its other videos, hiding each other.

Silhouettes, articulation and texture are real; place, occlusion and identity are generated, and so exact. The
result is semi-synthetic. A composite uses one part of one data set, so nothing of a validation set reaches
training.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from ookd.data import rle
from ookd.data.frames import read_frame
from ookd.errors import UserError
from ookd.structures import Dataset, Track, Video
from ookd.worlds.config import Staging
from ookd.worlds.drawn import DrawnVideos, FrameTruth, RecentCache
from ookd.worlds.layers import (
    Affine,
    Image,
    Mask,
    Region,
    SceneLayer,
    blend,
    full_masks,
    region_of,
    visible_masks,
    warp_into,
)
from ookd.worlds.layout import SceneLayout, drift
from ookd.worlds.motion import Poses, plan

Portion = Literal["all", "train", "tune"]
_TUNE_EVERY = 4  # every fourth video is kept for tuning
_SHORTEST = 40  # pixels; smaller tracks would look blurred


@dataclass(frozen=True)
class PasteCandidate:
    """A track that can be pasted: the frames that show it, and its place and size there."""

    video: Video
    track: Track
    label: int
    frames: NDArray[np.int64]  # [F] ascending
    centres: NDArray[np.float64]  # [F, 2] of its box, smoothed over time to keep its own bouncing
    length: float  # median longer side of its box, pixels


@dataclass(frozen=True)
class Actor:
    """A pasted track: the frame it starts with, whether it is mirrored, and its length in frame heights."""

    candidate: PasteCandidate
    start: int
    flip: bool
    size: float


class Composite(DrawnVideos["CompositeScene"]):
    """Videos composed of the frames and tracks of a data set, as a source of clips.

    If the file marks videos as `single_object`, tracks come only from those: a rider with a horse is not one
    object. The background video keeps its own tracks. The part "tune" is a quarter of the videos.
    """

    def __init__(
        self,
        dataset: Dataset,
        part: Portion = "all",
        seed: int = 0,
        videos: int = 100,
        **changes: Any,
    ) -> None:
        self.config = Staging(association=0.5, crowd=(2, 5), size=(0.25, 0.6)).changed(changes)
        self.data, self.part, self.seed = dataset, part, seed
        self.backgrounds = _annotated(dataset, part)
        self.candidates = _candidates(dataset, self.backgrounds)
        if len({candidate.video.id for candidate in self.candidates}) < 2:
            raise UserError(
                f"{dataset.name}: too few of the {part} videos have a single object of {_SHORTEST} pixels or "
                "more; a composite needs two"
            )
        self.images: RecentCache[tuple[int, int], Image] = RecentCache(256)
        names = [category.name for category in dataset.categories]
        size = (self.config.height, self.config.width)
        super().__init__(f"composite-{dataset.name}-{part}-{seed}", names, videos, self.config.frames, size)

    @property
    def recipe(self) -> dict[str, Any]:
        staging = self.config.model_dump()
        return {
            "name": self.name,
            "data": self.data.name,
            "part": self.part,
            "seed": self.seed,
            "staging": staging,
        }

    def make_scene(self, index: int) -> CompositeScene:
        stream = zlib.crc32(self.name.encode())  # so that train and val differ in their motion
        return CompositeScene(self, np.random.SeedSequence(self.seed, spawn_key=(stream, index)))

    def image(self, video: Video, frame: int) -> Image:
        return self.images.get((video.id, frame), lambda: read_frame(self.data, video, frame))


def _annotated(dataset: Dataset, part: Portion) -> list[Video]:
    """The videos of a part. Every fourth with a single object, and every fourth other, is for tuning."""
    if part not in get_args(Portion):
        raise UserError(
            f"unknown part '{part}' of {dataset.name}; choose from {', '.join(get_args(Portion))}"
        )
    videos = [video for video in dataset.videos if video.tracks]
    if part == "all":
        return videos
    single = [video for video in videos if video.extra.get("single_object")]
    others = [video for video in videos if not video.extra.get("single_object")]
    tune = {video.id for group in (single, others) for video in group[_TUNE_EVERY - 1 :: _TUNE_EVERY]}
    return [video for video in videos if (video.id in tune) == (part == "tune")]


def _candidates(dataset: Dataset, videos: list[Video]) -> list[PasteCandidate]:
    label_of = dataset.label_of()
    marked = any("single_object" in video.extra for video in dataset.videos)
    found = []
    for video in videos:
        for track in video.tracks if video.extra.get("single_object", not marked) else ():
            frames = np.array([t for t, box in enumerate(track.boxes_xywh) if box and track.segmentations[t]])
            if track.iscrowd or len(frames) < 2:
                continue
            boxes = np.array([track.boxes_xywh[t] for t in frames], np.float64)
            length = float(np.median(boxes[:, 2:].max(1)))
            if length >= _SHORTEST:
                centres = _smoothed(boxes[:, :2] + boxes[:, 2:] / 2)
                found.append(
                    PasteCandidate(video, track, label_of[track.category_id], frames, centres, length)
                )
    return found


def _smoothed(path: NDArray[np.float64], reach: int = 4) -> NDArray[np.float64]:
    """Mean over `reach` frames each way, [F, 2]."""
    padded = np.pad(path, ((reach, reach), (0, 0)), "edge")
    total = np.cumsum(np.vstack([np.zeros((1, 2)), padded]), 0)
    return np.asarray((total[2 * reach + 1 :] - total[: -2 * reach - 1]) / (2 * reach + 1))


def _bounce(step: int, length: int) -> int:
    """The frame at a step of going back and forth through `length` frames."""
    step %= max(2 * length - 2, 1)
    return min(step, 2 * length - 2 - step) if length > 1 else 0


def _brightness(image: Image) -> float:
    return sum(cv2.mean(image)[:3]) / 3 + 1


def _toned(paint: Image, own: float, there: float) -> Image:
    """The object with its brightness moved a third of the way to that of the background."""
    gain = float(np.clip((there / own) ** (1 / 3), 0.7, 1.4))
    return np.asarray(cv2.convertScaleAbs(paint, alpha=gain), np.uint8)


class CompositeScene:
    """One composed video as a function of time."""

    def __init__(self, owner: Composite, seed: np.random.SeedSequence) -> None:
        config = owner.config
        self._owner, self._config = owner, config
        rng = np.random.default_rng(seed)
        self.background = owner.backgrounds[int(rng.integers(len(owner.backgrounds)))]
        self._start = int(rng.integers(self.background.length))
        self.below = [track for track in self.background.tracks if not track.iscrowd]
        self.actors, twins = self._cast(rng)
        layout = SceneLayout(
            config.frames, config.width / config.height, 0.0, config.association, drift(rng, config.frames)
        )
        sizes = np.array([actor.size for actor in self.actors])
        self.poses: Poses = plan(rng, ["swim"] * len(sizes), sizes, twins, layout)

    def _cast(self, rng: np.random.Generator) -> tuple[list[Actor], list[int]]:
        """The pasted tracks. A look-alike is the same track at another time, mirrored or not."""
        config, actors = self._config, list[Actor]()
        twins: list[int] = []
        choices = [
            candidate for candidate in self._owner.candidates if candidate.video.id != self.background.id
        ]
        low, high = np.log(config.size[0]), np.log(config.size[1])
        for i in range(int(rng.integers(config.crowd[0], config.crowd[1] + 1))):
            candidate, size = choices[int(rng.integers(len(choices)))], float(np.exp(rng.uniform(low, high)))
            start, flip = int(rng.integers(len(candidate.frames))), bool(rng.random() < 0.5)
            alike, whom = rng.random() < 0.1 + 0.6 * config.association, int(rng.integers(max(i, 1)))
            twins.append(i)
            if alike and i:
                twins[i] = twins[whom]
                candidate, size = actors[whom].candidate, actors[whom].size * float(rng.uniform(0.85, 1.15))
                start = actors[whom].start + len(candidate.frames) // 2
            actors.append(Actor(candidate, start, flip, size))
        return actors, twins

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Objects of the background video come first."""
        label_of = self._owner.data.label_of()
        own = [label_of[track.category_id] for track in self.below]
        return np.array(own + [actor.candidate.label for actor in self.actors], np.int64)

    def frame(self, t: int) -> tuple[Image, Mask]:
        """Frame t [H, W, 3] RGB and its visible masks [N, H, W]."""
        underneath = self._owner.image(self.background, self._time(t))
        canvas = self._fit(underneath)
        layers = self._layers(t)
        for i in self._far_to_near(t):
            layer = layers[len(self.below) + i]
            if layer is not None:
                candidate = self.actors[i].candidate
                image = self._owner.image(candidate.video, int(candidate.frames[self._source_frame(i, t)]))
                paint = warp_into(image, self._place(i, t), layer.region)
                paint = _toned(paint, _brightness(image), _brightness(underneath))
                blend(canvas, paint, layer.alpha, layer.region)
        return canvas, self._visible(layers, t)

    def truth(self, t: int) -> FrameTruth:
        """The masks of frame t; no image is read."""
        layers = self._layers(t)
        full = full_masks(layers, self._config.height, self._config.width)
        return FrameTruth(self._visible(layers, t), full)

    def _time(self, t: int) -> int:
        return _bounce(self._start + t, self.background.length)

    def _source_frame(self, i: int, t: int) -> int:
        """Which of its own visible frames object i shows at time t."""
        actor = self.actors[i]
        return _bounce(actor.start + t, len(actor.candidate.frames))

    def _far_to_near(self, t: int) -> list[int]:
        return [int(i) for i in np.argsort(self.poses.depth[:, t], kind="stable")]

    @cached_property
    def _view(self) -> Affine:
        """Pixels of the background video -> pixels of the frame, which is filled; the middle is kept."""
        video, config = self.background, self._config
        scale = max(config.height / video.height, config.width / video.width)
        x, y = (config.width - scale * video.width) / 2, (config.height - scale * video.height) / 2
        return np.array([[scale, 0, x + (scale - 1) / 2], [0, scale, y + (scale - 1) / 2]])

    def _fit(self, image: Image) -> Image:
        """The background frame at the size of the output."""
        config, scale = self._config, float(self._view[0, 0])
        if scale < 1:  # averaged, not sampled
            image = np.asarray(cv2.blur(image, (max(1, round(1 / scale)),) * 2), np.uint8)
        region = Region(0, 0, config.height, config.width)
        return warp_into(image, self._view, region)

    def _place(self, i: int, t: int) -> Affine:
        """Pixels of the video of object i -> pixels of the frame."""
        actor, poses, height = self.actors[i], self.poses, self._config.height
        centre = actor.candidate.centres[self._source_frame(i, t)]
        scale = float(poses.length[i, t]) * height / actor.candidate.length
        across = -scale if actor.flip else scale
        x, y = poses.x[i, t] * height, poses.y[i, t] * height
        return np.array([[across, 0, x - across * centre[0]], [0, scale, y - scale * centre[1]]])

    def _layers(self, t: int) -> list[SceneLayer | None]:
        """What each object covers: those of the background video, then the pasted ones."""
        own = [self._layer(self.background, track, self._time(t), self._view) for track in self.below]
        pasted = [
            self._layer(
                actor.candidate.video,
                actor.candidate.track,
                int(actor.candidate.frames[self._source_frame(i, t)]),
                self._place(i, t),
            )
            for i, actor in enumerate(self.actors)
        ]
        return own + pasted

    def _layer(self, video: Video, track: Track, frame: int, affine: Affine) -> SceneLayer | None:
        """A mask of the data set warped into the frame; None if nothing of it is inside."""
        box = track.boxes_xywh[frame]
        if track.segmentations[frame] is None or box is None:
            return None
        x, y, w, h = box
        around = (x - 1, y - 1, x + w + 2, y + h + 2)
        region = region_of(affine, around, self._config.height, self._config.width)
        if region is None:
            return None
        mask = rle.decode(rle.of_track(video, track, frame))
        return SceneLayer(region, warp_into(mask.astype(np.uint8) * 255, affine, region))

    def _visible(self, layers: list[SceneLayer | None], t: int) -> Mask:
        """The objects of the background video lie below all pasted ones."""
        own = len(self.below)
        order = [*range(own), *(own + i for i in self._far_to_near(t))]
        return visible_masks(layers, order, self._config.height, self._config.width)
