"""A model annotates videos without labels: the tracks it is sure of become a training set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np

from ookd.data import rle
from ookd.errors import UserError
from ookd.models.families import offline_config, tracker_config
from ookd.models.protocols import OfflineModel, OnlineModel
from ookd.models.zoo import Saved
from ookd.structures import Category, Dataset, Rle, Track, TrackResult
from ookd.tracking.offline import track_offline
from ookd.tracking.predict import Recording, predict_video


@dataclass(frozen=True, slots=True)
class LabelThresholds:
    """Which tracks become labels."""

    score: float = 0.5  # least confidence of a track
    of_class: Mapping[str, float] = field(default_factory=dict)  # the same for single classes
    frames: int = 3  # least number of frames that show the track

    def check(self, names: Sequence[str]) -> None:
        """Raise a `UserError` unless the model knows all classes that are named."""
        if unknown := set(self.of_class) - set(names):
            raise UserError(f"the model has no class {', '.join(sorted(unknown))}; it has {', '.join(names)}")


def confident_tracks(
    saved: Saved, recording: Recording, thresholds: LabelThresholds
) -> Iterator[TrackResult]:
    """The tracks of a video that pass the thresholds. A category is the model's label + 1."""
    for label, score, masks in _tracks(saved, recording):
        shown = sum(mask is not None for mask in masks)
        least = thresholds.of_class.get(saved.names[label], thresholds.score)
        if score >= least and shown >= thresholds.frames:
            yield TrackResult(recording.id, label + 1, score, masks)


def annotated(
    dataset: Dataset, names: Sequence[str], tracks_of: Callable[[int], Iterable[TrackResult]]
) -> Dataset:
    """The same videos with the tracks found in each, by video id. Each track has the model's confidence as
    `score`; the classes are the model's `names`.
    """
    number, videos = count(1), []
    for video in dataset.videos:
        tracks = [_track(next(number), result) for result in tracks_of(video.id)]
        videos.append(replace(video, tracks=tracks))
    categories = [Category(label + 1, name) for label, name in enumerate(names)]
    return Dataset(categories, videos, dataset.root, dataset.name)


def _tracks(saved: Saved, recording: Recording) -> Iterator[tuple[int, float, list[Rle | None]]]:
    """Best class, its score and the masks, one a frame, of every track in a video."""
    family = saved.model.config.family
    if isinstance(saved.model, OfflineModel):
        settings = offline_config(family, saved.tracker)
        for track in track_offline(saved.model, recording.images(), settings):
            probs = track.probs / track.frames
            yield int(np.argmax(probs)), float(probs.max()), track.masks
    elif isinstance(saved.model, OnlineModel):
        config = tracker_config(family, saved.tracker | {"every_class": False})
        found = predict_video(saved.model, recording, config)
        for result in found.tracks(recording.id, range(len(saved.names))):
            yield result.category_id, result.score, result.segmentations


def _track(number: int, result: TrackResult) -> Track:
    """An annotation. A frame with an empty mask does not show the object."""
    areas = [None if mask is None else float(rle.area(mask)) for mask in result.segmentations]
    masks = [mask if area else None for mask, area in zip(result.segmentations, areas, strict=True)]
    boxes = [None if mask is None else rle.box_xywh(mask) for mask in masks]
    return Track(
        number,
        result.category_id,
        list(masks),
        boxes,
        [area or None for area in areas],
        extra={"score": round(result.score, 4)},
    )
