"""The interface of labellers: tracks of a video, with a confidence for each track and each frame.

A labeller is a saved model (`saved`), SAM 3 (`sam3`), or a detector whose finds SAM 2 follows (`follow`).
`plausible` filters its tracks, and the rest become annotations. Tracks that miss the thresholds become crowd
regions, which training ignores: they may be objects, so they are not background.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, Protocol

from ookd.data import rle
from ookd.data.confidence import SCORE, SCORES, SURE
from ookd.errors import UserError
from ookd.structures import Category, Dataset, Track, TrackResult
from ookd.tracking.recordings import Recording

DIGITS = 4  # of confidences in annotations


class Labeller(Protocol):
    """Annotates videos. The category of a track is the position of its class in `names`, counted from 1."""

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def teacher(self) -> Mapping[str, Any]:
        """The origin of its labels, for the annotations: id, revision, licence, prompts."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Everything that its labels depend on, except the video."""

    def tracks(self, recording: Recording, on_frame: Callable[[], None]) -> Iterator[TrackResult]:
        """The tracks of a video, each with `frame_scores`. `on_frame` is called for each frame."""


@dataclass(frozen=True, slots=True)
class LabelThresholds:
    """Which tracks become labels, and which are at least doubtful."""

    score: float = 0.5  # lowest confidence of a track
    of_class: Mapping[str, float] = field(default_factory=dict)  # the same for single classes
    frames: int = 3  # least number of frames that show the track
    # A frame below this share of its track's confidence is unsure. A track below this share of the lowest
    # confidence is dropped.
    sure: float = SURE
    unsure: int = 5  # unsure frames in a row that end a track
    objects: int | None = None  # most tracks of a video; the most confident are kept

    def check(self, names: Sequence[str]) -> None:
        """Raise a `UserError` unless the model knows all classes that are named."""
        if unknown := set(self.of_class) - set(names):
            raise UserError(f"the model has no class {', '.join(sorted(unknown))}; it has {', '.join(names)}")

    def least(self, name: str) -> float:
        """The lowest confidence of a track of this class."""
        return self.of_class.get(name, self.score)

    def doubt(self, track: TrackResult, name: str) -> bool:
        """Whether a track of this class misses a threshold."""
        shown = sum(mask is not None for mask in track.segmentations)
        return track.score < self.least(name) or shown < self.frames


def plausible(
    tracks: Iterable[TrackResult], names: Sequence[str], thresholds: LabelThresholds
) -> Iterator[TrackResult]:
    """The tracks that may be objects, cut where their labeller was unsure for long."""
    kept = [
        piece
        for track in tracks
        for piece in cut_where_unsure(track, thresholds.sure, thresholds.unsure)
        if piece.score >= thresholds.sure * thresholds.least(names[piece.category_id - 1])
    ]
    if thresholds.objects is not None and len(kept) > thresholds.objects:
        order = sorted(range(len(kept)), key=lambda n: -kept[n].score)
        kept = [kept[n] for n in sorted(order[: thresholds.objects])]
    yield from kept


def cut_where_unsure(track: TrackResult, sure: float, unsure: int) -> list[TrackResult]:
    """The parts of a track between runs of at least `unsure` unsure frames.

    The unsure frames stay with the part before, so that training knows about them. Frames without the object
    neither start nor end such a run. The parts of a cut track have the mean confidence of their own sure
    frames.
    """
    scores = track.frame_scores
    if scores is None:
        return [track]
    seen = [frame for frame, score in enumerate(scores) if score is not None]
    least = sure * track.score
    starts, below = [0], 0
    for frame in seen:
        if (scores[frame] or 0.0) < least:
            below += 1
            continue
        if below >= unsure and any((scores[f] or 0.0) >= least for f in seen if starts[-1] <= f < frame):
            starts.append(frame)
        below = 0
    if len(starts) == 1:
        return [track]
    ends = [*starts[1:], len(scores)]
    return [part(track, range(start, end), least) for start, end in zip(starts, ends, strict=True)]


def part(track: TrackResult, frames: range, least: float) -> TrackResult:
    """The track within some frames; its confidence is the mean of those that reach `least`."""
    inside = set(frames)
    scores = [score if t in inside else None for t, score in enumerate(track.frame_scores or [])]
    masks = [mask if t in inside else None for t, mask in enumerate(track.segmentations)]
    known = [score for score in scores if score is not None and score >= least]
    mean = sum(known) / len(known) if known else 0.0
    return replace(track, score=mean, segmentations=masks, frame_scores=scores)


def annotated(
    dataset: Dataset,
    names: Sequence[str],
    tracks_of: Callable[[int], Iterable[TrackResult]],
    thresholds: LabelThresholds,
) -> Dataset:
    """The same videos with the tracks found in each, by video id. The classes are the labeller's `names`.

    Each track has its confidence in `score`, and that of each frame in `scores`. Doubtful ones are crowds.
    """
    number, videos = count(1), []
    for video in dataset.videos:
        tracks = [
            _track(next(number), result, thresholds.doubt(result, names[result.category_id - 1]))
            for result in tracks_of(video.id)
        ]
        videos.append(replace(video, tracks=tracks))
    categories = [Category(label + 1, name) for label, name in enumerate(names)]
    return Dataset(categories, videos, dataset.root, dataset.name)


def _track(number: int, result: TrackResult, doubtful: bool) -> Track:
    """An annotation. A frame with an empty mask does not show the object."""
    areas = [None if mask is None else float(rle.area(mask)) for mask in result.segmentations]
    masks = [mask if area else None for mask, area in zip(result.segmentations, areas, strict=True)]
    boxes = [None if mask is None else rle.box_xywh(mask) for mask in masks]
    extra: dict[str, Any] = {SCORE: round(result.score, DIGITS)}
    if result.frame_scores is not None:
        seen = zip(masks, result.frame_scores, strict=True)
        extra[SCORES] = [None if mask is None else round(score or 0.0, DIGITS) for mask, score in seen]
    known = [area or None for area in areas]
    return Track(number, result.category_id, list(masks), boxes, known, doubtful, extra)
