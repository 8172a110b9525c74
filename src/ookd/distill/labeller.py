"""Videos that nobody annotated, annotated by a model: what it is sure of becomes a training set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np

from ookd.config.tracker import tracker_config
from ookd.data import rle
from ookd.errors import UserError
from ookd.models.zoo import Saved
from ookd.structures import Category, Dataset, Rle, Track, TrackResult
from ookd.tracking.offline import OfflineConfig, track_offline
from ookd.tracking.predict import Recording, predict_video


@dataclass(frozen=True, slots=True)
class Sure:
    """Which tracks are taken for true."""

    score: float = 0.5  # least confidence of a track
    of_class: Mapping[str, float] = field(default_factory=dict)  # other values for some classes
    frames: int = 3  # least frames that show it

    def check(self, names: Sequence[str]) -> None:
        """Raise unless all classes spoken of are among these."""
        if unknown := set(self.of_class) - set(names):
            raise UserError(f"the model has no class {', '.join(sorted(unknown))}; it has {', '.join(names)}")


def sure_tracks(saved: Saved, recording: Recording, sure: Sure) -> Iterator[TrackResult]:
    """What the model follows through a video and is sure of; a category is its label + 1."""
    for label, score, masks in _tracks(saved, recording):
        shown = sum(mask is not None for mask in masks)
        if score >= sure.of_class.get(saved.names[label], sure.score) and shown >= sure.frames:
            yield TrackResult(recording.id, label + 1, score, masks)


def annotated(
    dataset: Dataset, names: Sequence[str], found: Callable[[int], Iterable[TrackResult]]
) -> Dataset:
    """The same videos with the tracks that were found in each; each says how sure the model was (`score`).

    The classes `names` are the model's.
    """
    number, videos = count(1), []
    for video in dataset.videos:
        tracks = [_track(next(number), result) for result in found(video.id)]
        videos.append(replace(video, tracks=tracks))
    categories = [Category(label + 1, name) for label, name in enumerate(names)]
    return Dataset(categories, videos, dataset.root, dataset.name)


def _tracks(saved: Saved, recording: Recording) -> Iterator[tuple[int, float, list[Rle | None]]]:
    """Best class, its score, and a mask a frame, of everything the model follows through a video."""
    if getattr(saved.model, "offline", False):
        for track in track_offline(
            saved.model, recording.images(), OfflineConfig.model_validate(saved.tracker)
        ):
            probs = track.probs / track.frames
            yield int(np.argmax(probs)), float(probs.max()), track.masks
    else:
        config = tracker_config(saved.model.config.family, saved.tracker)  # type: ignore[union-attr, arg-type]
        config = config.model_copy(update={"every_class": False})
        found = predict_video(saved.model, recording, config)
        for result in found.tracks(recording.id, range(len(saved.names))):
            yield result.category_id, result.score, result.segmentations


def _track(number: int, result: TrackResult) -> Track:
    """An annotation; frames where nothing of a mask is left do not show it."""
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
