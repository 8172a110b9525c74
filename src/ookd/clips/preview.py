"""Draw frames with their masks, on one sheet or as video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ookd.clips.minor_paste import MinorPaste, MinorPasteConfig
from ookd.clips.sources import ClipStage, DatasetClips
from ookd.data.frames import named_videos
from ookd.drawing.overlay import Image, Overlay, contact_sheet
from ookd.structures import Clip, Dataset, FrameResult


class Preview:
    """Draws the videos of a data set; with `minor_paste`, objects are pasted as in training."""

    def __init__(self, dataset: Dataset, minor_paste: bool = False, seed: int = 0) -> None:
        self.names = [name for name, _ in named_videos(dataset)]
        self._clips = DatasetClips(dataset, labelled_only=False)
        self._stages: list[ClipStage] = []
        if minor_paste:
            self._stages.append(MinorPaste(self._clips, MinorPasteConfig(probability=1)))
        self._seed = seed

    def sheet(self, videos: Sequence[int], columns: int = 4) -> Image:
        """A row for each video, with frames from beginning to end; single images fill rows together."""
        images: list[Image] = []
        titles: list[str] = []
        for video in videos:
            length = self._clips.video_length(video)
            frames = spaced(length, columns)
            images += self._draw(video, frames)
            titles += [self.names[video] + f", frame {frame}" * (length > 1) for frame in frames]
        return contact_sheet(images, columns, titles)

    def video(self, video: int) -> Iterator[Image]:
        """All frames. Only Minor-Paste needs them in memory together."""
        frames = range(self._clips.video_length(video))
        yield from self._draw(video, frames, together=bool(self._stages))

    def _draw(self, video: int, frames: Sequence[int], together: bool = True) -> Iterator[Image]:
        overlay = Overlay()
        numbers: dict[int, int] = {}  # drawn ids count from 1, because those of a data set can be long
        rng = np.random.default_rng([self._seed, video])
        for some in [frames] if together else [[frame] for frame in frames]:
            clip = self._clips.clip(video, some)
            for stage in self._stages:
                clip = stage(clip, rng)
            ids = np.array([numbers.setdefault(number, len(numbers) + 1) for number in clip.ids.tolist()])
            for place in range(len(some)):
                yield overlay.draw(_result(clip, place, ids.astype(np.int64), self._clips.names))


def spaced(count: int, most: int) -> list[int]:
    """At most `most` of the numbers 0..count-1, evenly spaced from 0 on."""
    return [number * count // min(count, most) for number in range(min(count, most))]


def _result(clip: Clip, place: int, ids: NDArray[np.int64], names: Sequence[str]) -> FrameResult:
    """The objects visible in one frame of a clip, as a perfect model would find them."""
    seen = clip.masks[place].any((1, 2))  # [N]
    masks = clip.masks[place][seen]
    return FrameResult(
        index=int(clip.frames[place]),
        ids=ids[seen],
        labels=clip.labels[seen],
        scores=np.ones(len(masks), np.float32),
        boxes_xyxy=np.array([_box(mask) for mask in masks], np.float32).reshape(-1, 4),
        masks=masks,
        names=names,
        image=clip.images[place],
    )


def _box(mask: NDArray[np.bool_]) -> list[int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
