"""The videos of any data source, to be predicted one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from ookd.clips.sources import ClipSource, DatasetClips
from ookd.data.frames import read_frames
from ookd.errors import UserError
from ookd.structures import Dataset, Video
from ookd.tracking.frame_model import Image


@dataclass(frozen=True, slots=True)
class Recording:
    """A video to be predicted: its number in the results, and its images."""

    id: int
    length: int
    read: Callable[[Sequence[int]], Iterator[Image]]  # these frames, in this order

    def images(self) -> Iterator[Image]:
        """All of them in order."""
        return self.read(range(self.length))

    def backwards(self) -> Recording:
        """The same video from its end to its beginning."""

        def read(frames: Sequence[int]) -> Iterator[Image]:
            return self.read([self.length - 1 - frame for frame in frames])

        return replace(self, read=read)


def recordings(source: Dataset | ClipSource) -> list[Recording]:
    """The videos of annotated data, or of any source of clips, where video i is number i + 1."""
    if isinstance(source, DatasetClips):
        source = source.dataset
    if isinstance(source, Dataset):
        return [Recording(video.id, video.length, partial(_read, source, video)) for video in source.videos]
    return [Recording(i + 1, source.video_length(i), partial(_draw, source, i)) for i in range(len(source))]


def category_ids(source: Dataset | ClipSource, names: Sequence[str]) -> list[int | None]:
    """The data set's category number of each of a model's classes, by name; None where it has none."""
    if isinstance(source, DatasetClips):
        source = source.dataset
    if isinstance(source, Dataset):
        known = {category.name: category.id for category in source.categories}
    else:
        known = {name: label + 1 for label, name in enumerate(source.names)}
    found = [known.get(name) for name in names]
    if not any(found):
        raise UserError(
            f"the model and the data have no class in common: {_few(names)} against {_few(list(known))}"
        )
    return found


def _read(dataset: Dataset, video: Video, frames: Sequence[int]) -> Iterator[Image]:
    for frame, image in zip(frames, read_frames(dataset, video, frames), strict=True):
        if image.shape[:2] != (video.height, video.width):
            raise UserError(
                f"video {video.id}, frame {frame} ({video.file_names[frame]}): the image is "
                f"{image.shape[1]}x{image.shape[0]}, the data says {video.width}x{video.height}"
            )
        yield image


def _draw(source: ClipSource, i: int, frames: Sequence[int]) -> Iterator[Image]:
    for frame in frames:
        yield source.clip(i, [frame]).images[0]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
