"""From videos to training clips: where clips come from, and the data set that torch's loader reads.

A `ClipSource` is random access to frames with masks: annotated videos (`DatasetClips`) or synthetic worlds.
`ClipDataset` draws frames from it and passes the clip through stages (Minor-Paste, augmentation). All chance
comes from one generator seeded by (seed, epoch, index), so a clip does not depend on which worker makes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset as TorchDataset

from ookd.data import rle
from ookd.data.frames import read_frame
from ookd.data.sampling import FrameSampler
from ookd.errors import UserError
from ookd.structures import Clip, Dataset, Rle, Track, Video


@runtime_checkable
class ClipSource(Protocol):
    """Videos whose frames and masks can be asked for in any order."""

    @property
    def names(self) -> Sequence[str]:
        """Class names by label."""

    def __len__(self) -> int:
        """Number of videos."""

    def video_length(self, i: int) -> int: ...

    def labels(self, i: int) -> list[int]:
        """The label of each track of video `i`, without reading an image."""

    def class_counts(self) -> list[int]:
        """Number of tracks by label."""

    def clip(self, i: int, frames: Sequence[int]) -> Clip:
        """The given frames of video `i` (repeats allowed) with every track that is seen in one of them."""


class Stage(Protocol):
    """Something done to a clip on its way to training; all chance comes from `rng`."""

    def __call__(self, clip: Clip, rng: np.random.Generator) -> Clip: ...


class DatasetClips:
    """Clips of annotated videos. Masks stay run lengths until their frame is asked for.

    Crowd annotations are left out, and so are, with `labelled_only`, videos that have no other.
    """

    def __init__(self, dataset: Dataset, labelled_only: bool = True) -> None:
        self.dataset = dataset
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

    def clip(self, i: int, frames: Sequence[int]) -> Clip:
        video, tracks = self._videos[i]
        seen = [track for track in tracks if any(_is_seen(track, frame) for frame in frames)]
        return Clip(
            images=[self._image(video, frame) for frame in frames],
            masks=[_masks(video, seen, frame) for frame in frames],
            labels=np.array([self._label_of[track.category_id] for track in seen], np.int64),
            ids=np.array([track.id for track in seen], np.int64),
            frames=np.array(frames, np.int64),
            video=f"{self.dataset.name}:{video.id}",
        )

    def _image(self, video: Video, frame: int) -> NDArray[np.uint8]:
        image = read_frame(self.dataset, video, frame)
        if image.shape[:2] != (video.height, video.width):
            raise UserError(
                f"video {video.id}, frame {frame} ({video.file_names[frame]}): the image is "
                f"{image.shape[1]}x{image.shape[0]}, its annotations are for {video.width}x{video.height}"
            )
        return image


def _is_seen(track: Track, frame: int) -> bool:
    """A frame annotation counts only with both box and mask."""
    return track.segmentations[frame] is not None and track.boxes_xywh[frame] is not None


def _masks(video: Video, tracks: list[Track], frame: int) -> NDArray[np.bool_]:
    """[N, H, W] of the tracks in one frame."""
    masks = np.zeros((len(tracks), video.height, video.width), np.bool_)
    for n, track in enumerate(tracks):
        if _is_seen(track, frame):
            masks[n] = rle.decode(_rle(video, track, frame))
    return masks


def _rle(video: Video, track: Track, frame: int) -> Rle:
    try:
        return rle.from_any(track.segmentations[frame], video.height, video.width)
    except rle.RleError as error:
        raise UserError(f"video {video.id}, frame {frame}, track {track.id}: {error}") from error


class ClipDataset(TorchDataset[Clip]):
    """Training clips, one a video and epoch. A key is (epoch, video)."""

    def __init__(
        self, source: ClipSource, sampler: FrameSampler, stages: Sequence[Stage] = (), seed: int = 0
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
        clip = self.source.clip(video, drawn.frames)
        clip.student = drawn.student
        for stage in self.stages:
            clip = stage(clip, rng)
        return clip

    def order(self, epoch: int) -> list[tuple[int, int]]:
        """The keys of an epoch, shuffled."""
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, epoch], spawn_key=(0,)))
        return [(epoch, int(video)) for video in rng.permutation(len(self))]
