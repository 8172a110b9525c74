"""Sources of training clips, and the data set that torch's loader reads.

A `ClipSource` gives random access to frames and masks: annotated videos (`DatasetClips`) or synthetic worlds.
`ClipDataset` draws frames from it and passes the clip through stages (Minor-Paste, augmentation). All
randomness comes from one generator seeded by (seed, epoch, index), so a clip does not depend on the worker.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset as TorchDataset

from ookd import limits
from ookd.clips.sampling import FrameSampler
from ookd.clips.transforms import Augmentation
from ookd.clips.warps import Size, Warp, warp_clip, warp_polygon
from ookd.data import rle
from ookd.data.confidence import SURE, is_doubtful, is_sure, of_frame
from ookd.data.frames import read_frame
from ookd.errors import UserError
from ookd.structures import Clip, Dataset, Track, Video


@runtime_checkable
class ClipSource(Protocol):
    """Videos whose frames and masks can be read in any order."""

    @property
    def names(self) -> Sequence[str]:
        """Class names by label."""

    def __len__(self) -> int:
        """Number of videos."""

    def video_length(self, i: int) -> int: ...

    def labels(self, i: int) -> list[int]:
        """The label of each track of video `i`; no image is read."""

    def class_counts(self) -> list[int]:
        """Number of tracks by label."""

    def clip(self, i: int, frames: Sequence[int]) -> Clip:
        """The given frames of video `i` (repeats allowed), with every track visible in one of them."""


class ClipStage(Protocol):
    """A change to a clip on its way to training.

    All randomness comes from `rng`. Arrays are replaced, never changed: frames of a clip may share them.
    """

    def __call__(self, clip: Clip, rng: np.random.Generator) -> Clip: ...


class DatasetClips:
    """Clips of annotated videos. Masks stay run lengths until their frame is needed.

    Crowd annotations are left out, and so are, with `labelled_only`, videos that have no other. Where a model
    made the labels, its doubtful tracks and the frames that it was not `sure` of are to be ignored: clips
    show no object there, and say so. With `weigh`, an instance weighs as much in a frame as the model was
    confident.
    """

    def __init__(
        self, dataset: Dataset, labelled_only: bool = True, sure: float = SURE, weigh: bool = False
    ) -> None:
        self.dataset, self.sure, self.weigh = dataset, sure, weigh
        self.names = [category.name for category in dataset.categories]
        self._label_of = dataset.label_of()
        self._videos = [
            (video, [track for track in video.tracks if not track.iscrowd])
            for video in dataset.videos
            if video.length
        ]
        if labelled_only:
            self._videos = [(video, tracks) for video, tracks in self._videos if tracks]
        if not self._videos:
            kind = "annotated " if labelled_only else ""
            raise UserError(f"{dataset.name or 'the data set'}: no {kind}video to make clips from")

    def __len__(self) -> int:
        return len(self._videos)

    def video_length(self, i: int) -> int:
        return self._videos[i][0].length

    def labels(self, i: int) -> list[int]:
        return [self._label_of[track.category_id] for track in self._videos[i][1]]

    def class_counts(self) -> list[int]:
        counts = np.zeros(len(self.names), np.int64)
        for i in range(len(self)):
            np.add.at(counts, self.labels(i), 1)
        return [int(count) for count in counts]

    def size(self, i: int) -> Size:
        return self._videos[i][0].height, self._videos[i][0].width

    def identity(self) -> str:
        """A digest of the videos and tracks, apart from pixels, to tell one data set from another."""
        digest = hashlib.sha256("\n".join(self.names).encode("utf-8", "surrogatepass"))
        for i, (video, tracks) in enumerate(self._videos):
            ids = [track.id for track in tracks]
            facts = (video.id, video.file_names, self.size(i), self.labels(i), ids)
            digest.update(repr(facts).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:16]

    def clip(self, i: int, frames: Sequence[int], warps: Sequence[Sequence[Warp]] = ()) -> Clip:
        """The frames of video `i`, each after its warps, if any.

        Warps given here act on the annotation itself, so polygons are drawn once, at their final size.
        """
        video, tracks = self._videos[i]
        tracks = [track for track in tracks if any(self._shows(track, frame) for frame in frames)]
        pixels = len(tracks) * len(set(frames)) * video.height * video.width
        limits.MASK_PIXELS.check(pixels, f"{self.dataset.name}: video {video.id}")
        images = {frame: self._image(video, frame) for frame in set(frames)}
        masks = {frame: self._masks(video, tracks, frame) for frame in set(frames)}
        ignore = {frame: self._ignored(video, frame) for frame in set(frames)}
        clip = Clip(
            images=[images[frame] for frame in frames],
            masks=[masks[frame] for frame in frames],
            labels=np.array([self._label_of[track.category_id] for track in tracks], np.int64),
            ids=np.array([track.id for track in tracks], np.int64),
            frames=np.array(frames, np.int64),
            video=f"{self.dataset.name}:{video.id}",
            ignore=_some_of([ignore[frame] for frame in frames], (video.height, video.width)),
            weights=_weights(tracks, frames) if self.weigh else None,
        )
        if warps:
            clip = warp_clip(clip, warps)
            clip.masks = [
                _redraw_polygons(masks, video, tracks, frame, steps, self._shows)
                for masks, frame, steps in zip(clip.masks, frames, warps, strict=True)
            ]
        return clip

    def _shows(self, track: Track, frame: int) -> bool:
        """Whether a frame shows a track for sure."""
        return _is_visible(track, frame) and is_sure(track, frame, self.sure)

    def _masks(self, video: Video, tracks: list[Track], frame: int) -> NDArray[np.bool_]:
        """[N, H, W] of the tracks in one frame."""
        masks = np.zeros((len(tracks), video.height, video.width), np.bool_)
        for n, track in enumerate(tracks):
            if self._shows(track, frame):
                masks[n] = _mask(video, track, frame)
        return masks

    def _ignored(self, video: Video, frame: int) -> NDArray[np.bool_] | None:
        """[H, W] what a labeller saw in a frame but was not sure of; None where there is nothing."""
        unsure = [
            track
            for track in video.tracks
            if _is_visible(track, frame)
            and (is_doubtful(track) or not (track.iscrowd or is_sure(track, frame, self.sure)))
        ]
        if not unsure:
            return None
        region: NDArray[np.bool_] = np.any([_mask(video, track, frame) for track in unsure], axis=0)
        return region

    def _image(self, video: Video, frame: int) -> NDArray[np.uint8]:
        image = read_frame(self.dataset, video, frame)
        if image.shape[:2] != (video.height, video.width):
            raise UserError(
                f"video {video.id}, frame {frame} ({video.file_names[frame]}): the image is "
                f"{image.shape[1]}x{image.shape[0]}, its annotations are for {video.width}x{video.height}"
            )
        return image


def _is_visible(track: Track, frame: int) -> bool:
    """A frame annotation counts only with both box and mask."""
    return track.segmentations[frame] is not None and track.boxes_xywh[frame] is not None


def _mask(video: Video, track: Track, frame: int) -> NDArray[np.bool_]:
    """[H, W]"""
    return rle.decode(rle.of_track(video, track, frame))


def _weights(tracks: Sequence[Track], frames: Sequence[int]) -> NDArray[np.float32] | None:
    """[N, T] the confidence of each frame; None if all are 1."""
    weights = [[of_frame(track, frame) for frame in frames] for track in tracks]
    return np.array(weights, np.float32) if any(one < 1 for row in weights for one in row) else None


def _some_of(regions: Sequence[NDArray[np.bool_] | None], size: Size) -> list[NDArray[np.bool_]] | None:
    """The regions of all frames, empty ones included, unless all are empty."""
    if all(region is None for region in regions):
        return None
    return [np.zeros(size, np.bool_) if region is None else region for region in regions]


def _redraw_polygons(
    masks: NDArray[np.bool_],
    video: Video,
    tracks: list[Track],
    frame: int,
    steps: Sequence[Warp],
    shows: Callable[[Track, int], bool],
) -> NDArray[np.bool_]:
    """[N, h, w] the warped masks; polygons are warped as polygons and drawn anew."""
    polygons = {n: track.segmentations[frame] for n, track in enumerate(tracks) if shows(track, frame)}
    polygons = {n: segmentation for n, segmentation in polygons.items() if isinstance(segmentation, list)}
    if not polygons:
        return masks
    masks = masks.copy()
    for n, segmentation in polygons.items():
        masks[n] = _draw(segmentation, steps, (video.height, video.width))
    return masks


def _draw(polygons: list[list[float]], steps: Sequence[Warp], size: Size) -> NDArray[np.bool_]:
    """[h, w] the polygons after the warps."""
    outlines = [warp_polygon(np.array(xy, np.float64).reshape(-1, 2), steps, size) for xy in polygons]
    for step in steps:
        size = step.size(size)
    left = [outline.ravel().tolist() for outline in outlines if len(outline) >= 3]
    return rle.decode(rle.from_any(left, *size)) if left else np.zeros(size, np.bool_)


def hide_labels(clip: Clip, rng: np.random.Generator) -> Clip:
    """A stage that drops all labels, for sources from which only a teacher teaches."""
    none = np.zeros(0, np.int64)
    masks = [np.zeros((0, *image.shape[:2]), np.bool_) for image in clip.images]
    return replace(clip, masks=masks, labels=none, ids=none, labelled=False, ignore=None, weights=None)


class ClipDataset(TorchDataset[Clip]):
    """Training clips, one for each video and epoch. A key is (epoch, video)."""

    def __init__(
        self, source: ClipSource, sampler: FrameSampler, stages: Sequence[ClipStage] = (), seed: int = 0
    ) -> None:
        self.source = source
        self.sampler = sampler
        self.stages = tuple(stages)
        self.seed = seed

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: tuple[int, int]) -> Clip:
        epoch, video = key
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, epoch, video]))
        drawn = self.sampler.draw(self.source.video_length(video), rng)
        stages = self.stages
        if stages and isinstance(stages[0], Augmentation) and isinstance(self.source, DatasetClips):
            warps = stages[0].draw([self.source.size(video)] * len(drawn.frames), rng)
            clip, stages = self.source.clip(video, drawn.frames, warps), stages[1:]
        else:
            clip = self.source.clip(video, drawn.frames)
        clip.student = drawn.student
        for stage in stages:
            clip = stage(clip, rng)
        clip.seed = int(rng.integers(2**31))
        return clip

    def order(self, epoch: int) -> list[tuple[int, int]]:
        """The keys of an epoch, shuffled."""
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, epoch], spawn_key=(0,)))
        return [(epoch, int(video)) for video in rng.permutation(len(self))]
