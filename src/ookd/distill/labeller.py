"""A model annotates videos without labels: the tracks it is sure of become a training set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from ookd.config.tracker import TrackerConfig
from ookd.data import rle
from ookd.errors import UserError
from ookd.models.families import family_of
from ookd.models.zoo import Saved
from ookd.structures import Category, Dataset, Track, TrackResult
from ookd.tracking.associators import make_associator
from ookd.tracking.predict import predict_video
from ookd.tracking.recordings import Recording


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
    saved: Saved,
    recording: Recording,
    thresholds: LabelThresholds,
    on_frame: Callable[[], None] = lambda: None,
) -> Iterator[TrackResult]:
    """The tracks of a video that pass the thresholds, under their best class. A category is the label + 1.

    Of an online model that knows objects by their looks, identities are decided when all frames are known.
    """
    constants = family_of(saved.model).tracker.changed({**saved.tracker, "every_class": False})
    categories = range(1, len(saved.names) + 1)
    linked = isinstance(constants, TrackerConfig) and make_associator(constants).by_looks
    ahead = None if linked else 0
    for result in predict_video(saved.model, recording, constants, categories, on_frame, ahead):
        shown = sum(mask is not None for mask in result.segmentations)
        least = thresholds.of_class.get(saved.names[result.category_id - 1], thresholds.score)
        if result.score >= least and shown >= thresholds.frames:
            yield result


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
