"""A model over many recorded videos: the benchmark's result list."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np

from ookd.clips.sources import ClipSource, DatasetClips
from ookd.config.tracker import TrackerConfig
from ookd.data import rle
from ookd.data.frames import read_frame
from ookd.errors import UserError
from ookd.masks import Geometry, full_size
from ookd.models.protocols import OnlineModel
from ookd.structures import Dataset, TrackResult, Video
from ookd.tracking.frame_model import FrameModel, Image, detect
from ookd.tracking.memory import Memory
from ookd.tracking.results import VideoResults
from ookd.tracking.select import Detections
from ookd.tracking.torch_model import device_of, observe
from ookd.tracking.tracker import advance

CHUNK = 8  # frames of a video that a model without memory sees at once


@dataclass(frozen=True, slots=True)
class Recording:
    """A video to be predicted: its number in the results, and its images in order."""

    id: int
    length: int
    images: Callable[[], Iterator[Image]]


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


def predict(
    model: OnlineModel | FrameModel,
    source: Dataset | ClipSource,
    config: TrackerConfig,
    names: Sequence[str] | None = None,
) -> list[TrackResult]:
    """All results of all videos. Without `names` the model's classes are the source's, in its order."""
    if names is None:
        names = [c.name for c in source.categories] if isinstance(source, Dataset) else source.names
    categories = category_ids(source, names)
    return [
        result
        for recording in recordings(source)
        for result in predict_video(model, recording, config).tracks(recording.id, categories)
    ]


def predict_video(
    model: OnlineModel | FrameModel,
    recording: Recording,
    config: TrackerConfig,
    told: Callable[[], None] = lambda: None,
) -> VideoResults:
    """Track one video from its first image to its last; `told` hears of each frame."""
    results = VideoResults(config)
    memory: Memory | None = None
    for seen, geometry in observe_video(model, recording.images(), config):
        if memory is None:
            memory = Memory.empty(seen.probs.shape[1], seen.embeds.shape[1], config)
        ids, memory = advance(memory, seen, config)
        known = np.flatnonzero(ids >= 0)
        masks, _ = full_size(seen.masks[known], geometry)
        results.add(ids[known], seen.probs[known], rle.encode_many(masks))
        told()
    return results


def observe_video(
    model: OnlineModel | FrameModel, images: Iterator[Image], config: TrackerConfig
) -> Iterator[tuple[Detections, Geometry]]:
    """The detections of each frame; several frames at once if the model carries nothing between them."""
    if isinstance(model, FrameModel):
        yield from _observe_stream(model, images, config)
        return
    device, training = device_of(model), model.training
    model.eval()
    try:
        state, chunk = None, 1
        while batch := list(islice(images, chunk)):
            detections, geometries, state = observe(model, batch, config, device, state)
            yield from zip(detections, geometries, strict=True)
            chunk = CHUNK if state is None else 1
    finally:
        model.train(training)


def _observe_stream(
    eye: FrameModel, images: Iterator[Image], config: TrackerConfig
) -> Iterator[tuple[Detections, Geometry]]:
    for _, sight in eye.stream(images, config.short_side):
        yield from zip(*detect(sight, config), strict=True)


def _read(dataset: Dataset, video: Video) -> Iterator[Image]:
    for frame in range(video.length):
        image = read_frame(dataset, video, frame)
        if image.shape[:2] != (video.height, video.width):
            raise UserError(
                f"video {video.id}, frame {frame} ({video.file_names[frame]}): the image is "
                f"{image.shape[1]}x{image.shape[0]}, the data says {video.width}x{video.height}"
            )
        yield image


def _draw(source: ClipSource, i: int) -> Iterator[Image]:
    for frame in range(source.video_length(i)):
        yield source.clip(i, [frame]).images[0]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
