"""Tracking again and again over the same frames, without a model and without pixels.

To choose tracker constants, hundreds of sets are tried on the same videos. What does not depend on them is
computed once: the queries of every frame, how their masks overlap each other, and how they overlap the truth.
A trial is then arithmetic on small arrays, and its AP is exactly the one that evaluation gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from ookd.config.tracker import TrackerConfig
from ookd.evaluation.ap import IGNORED, MAX_DETECTIONS, RIGHT, match
from ookd.evaluation.compare import RESAMPLINGS, Difference
from ookd.evaluation.errors import RankedPredictions, class_ap
from ookd.evaluation.returns import ReturnCounts, count_returns
from ookd.masks import Bools, Floats, Ints
from ookd.tracking.linker import Linker
from ookd.tracking.results import Histories
from ookd.tracking.select import DetectionFeatures, select_queries, suppress
from ookd.tracking.video_tracker import VideoTracker

SHOWS = 0.5  # mask IoU from which a detection shows an object


@dataclass(frozen=True, slots=True)
class CachedFrame:
    """The n queries of a frame that a trial may select, best first, and G true tracks."""

    queries: DetectionFeatures  # n
    boxes: Floats | None  # [n, 4] of the model, if it has boxes
    mask_boxes: Floats  # [n, 4] x1 y1 x2 y2 around the masks, in pixels
    mask_iou: Floats  # [n, n]
    overlap: Ints  # [n, 1 + G] pixels of the mask, and those it shares with each true track


@dataclass(frozen=True, slots=True)
class CachedVideo:
    id: int
    frames: list[CachedFrame]  # T
    truth_area: Ints  # [T, G] pixels
    truth_label: Ints  # [G] class, in the data's order
    crowd: Bools  # [G]


@dataclass(frozen=True, slots=True)
class Cache:
    videos: list[CachedVideo]
    label_of: Ints  # [K] the data's label of each of the model's classes, -1 if it has none
    classes: int  # of the data

    def __getitem__(self, videos: slice | Sequence[int]) -> Cache:
        chosen = self.videos[videos] if isinstance(videos, slice) else [self.videos[i] for i in videos]
        return Cache(chosen, self.label_of, self.classes)


@dataclass(frozen=True, slots=True)
class CachedTracks:
    """The R results of a video and how they overlap its G true tracks."""

    labels: Ints  # [R] class of the model
    scores: NDArray[np.float64]  # [R]
    iou: NDArray[np.float64]  # [R, G] over all frames


# From a video and the queries selected in each of its frames to their ids [N], -1 for what is no object.
Follow = Callable[[CachedVideo, Sequence[Ints], TrackerConfig], Iterable[Ints]]


def online(video: CachedVideo, selected: Sequence[Ints], config: TrackerConfig) -> Iterator[Ints]:
    """Frame after frame, by the tracker that the constants describe."""
    tracker = VideoTracker(config)
    for frame, rows in zip(video.frames, selected, strict=True):
        yield tracker.identify(frame.queries.at(rows))


def linked(ahead: int | None) -> Follow:
    """With so many of the following frames known; None: all of them."""

    def follow(video: CachedVideo, selected: Sequence[Ints], config: TrackerConfig) -> Iterator[Ints]:
        linker = Linker(config, ahead)
        for frame, rows in zip(video.frames, selected, strict=True):
            yield from linker.add(frame.queries.at(rows))
        yield from linker.finish()

    return follow


class _OverlapSums:
    """The store of a replay: of a track's masks it keeps only the sum of their overlaps."""

    def __init__(self) -> None:
        self.totals: list[Ints] = []

    def append(self, previous: int, frame: int, mask: Ints, score: float) -> int:
        self.totals.append(mask if previous < 0 else self.totals[previous] + mask)
        return len(self.totals) - 1


def average_precision(cache: Cache, config: TrackerConfig, follow: Follow = online) -> float:
    """Track AP of these constants, in 0..1."""
    once = np.ones((1, len(cache.videos)), np.int64)
    return float(resampled_ap(cache, tracks(cache, config, follow), once)[0])


def gain(
    cache: Cache, before: TrackerConfig, after: TrackerConfig, follow: Follow = online, seed: int = 0
) -> Difference:
    """How much AP `after` is above `before`, with the interval that a paired bootstrap over videos gives."""
    videos = len(cache.videos)
    drawn = np.random.default_rng(seed).multinomial(videos, np.full(videos, 1 / videos), RESAMPLINGS)
    weights = np.concatenate([np.ones((1, videos), np.int64), drawn])
    new, old = (resampled_ap(cache, tracks(cache, config, follow), weights) for config in (after, before))
    low, high = np.nanpercentile((new - old)[1:], [2.5, 97.5])
    return Difference(float(new[0]), float(old[0]), float(new[0] - old[0]), float(low), float(high))


def tracks(cache: Cache, config: TrackerConfig, follow: Follow = online) -> list[CachedTracks]:
    """The results of all videos."""
    return [track(video, config, follow) for video in cache.videos]


def resampled_ap(
    cache: Cache, results: Sequence[CachedTracks], weights: NDArray[np.int64]
) -> NDArray[np.float64]:
    """[R] track AP if each video counts as often as `weights` [R, V] says."""
    labels, scores, outcomes, owners = [], [], [], []
    for index, (video, found) in enumerate(zip(cache.videos, results, strict=True)):
        label, score, iou = found.labels, found.scores, found.iou
        label = cache.label_of[label]
        known = label >= 0
        label, score, iou = label[known], score[known], iou[known]
        inside = np.zeros((1, len(video.crowd)), bool), np.zeros((1, len(label)), bool)
        matched = match(score, label, video.truth_label, iou, video.crowd, *inside)
        counts = matched.rank < MAX_DETECTIONS[-1]
        labels.append(label[counts])
        scores.append(score[counts])
        outcomes.append(matched.outcome[0][:, counts])
        owners.append(np.full(counts.sum(), index))
    order = np.argsort(-np.concatenate(scores), kind="stable")
    label, owner, outcome = (np.concatenate(part, -1)[..., order] for part in (labels, owners, outcomes))
    truths = np.stack(
        [np.bincount(video.truth_label[~video.crowd], minlength=cache.classes) for video in cache.videos]
    )
    by_threshold = [
        class_ap(RankedPredictions(label[keep], owner[keep], row[keep] == RIGHT), truths, weights)
        for row in outcome
        for keep in [row != IGNORED]
    ]
    ap: NDArray[np.float64] = np.nanmean(by_threshold, axis=(0, 2))
    return ap


def track(video: CachedVideo, config: TrackerConfig, follow: Follow = online) -> CachedTracks:
    """Everything that is reported of a video."""
    selected = [select(frame, config) for frame in video.frames]
    sums = _OverlapSums()
    histories = Histories(config, sums)
    for frame, rows, ids in zip(video.frames, selected, follow(video, selected, config), strict=True):
        known = ids >= 0
        rows = rows[known]
        histories.add(ids[known], frame.queries.probs[rows], list(frame.overlap[rows]))
    results = [
        (label, score, sums.totals[track.record]) for track, found in histories for label, score in found
    ]
    area = video.truth_area.sum(0)
    if not results:
        return CachedTracks(np.zeros(0, np.int64), np.zeros(0), np.zeros((0, len(area))))
    labels, scores, overlap = (np.array(column) for column in zip(*results, strict=True))
    shared = overlap[:, 1:]
    union = overlap[:, :1] + area - shared
    return CachedTracks(labels, scores, shared / np.maximum(union, 1))


def returns(video: CachedVideo, config: TrackerConfig, follow: Follow = online) -> ReturnCounts:
    """What becomes of the ids of objects that return."""
    selected = [select(frame, config) for frame in video.frames]
    frames, true, found = [], [], []
    for t, (rows, ids) in enumerate(zip(selected, follow(video, selected, config), strict=True)):
        things = true_ids(video, t, rows)
        seen = (things >= 0) & (ids >= 0)
        frames.append(np.full(seen.sum(), t))
        true.append(things[seen])
        found.append(ids[seen])
    return count_returns(np.concatenate(frames), np.concatenate(true), np.concatenate(found))


def true_ids(video: CachedVideo, frame: int, rows: Ints) -> Ints:
    """The true track that each detection of a frame shows, at most one each: by mask IoU, from `SHOWS` on."""
    overlap = video.frames[frame].overlap[rows].astype(float)
    iou = overlap[:, 1:] / np.maximum(overlap[:, :1] + video.truth_area[frame] - overlap[:, 1:], 1)
    detection, thing = linear_sum_assignment(iou, maximize=True)
    right = iou[detection, thing] >= SHOWS
    true = np.full(len(rows), -1, np.int64)
    true[detection[right]] = thing[right]
    return true


def select(frame: CachedFrame, config: TrackerConfig) -> Ints:
    """The queries that are tracked, best first."""
    rows = select_queries(frame.queries.probs, frame.boxes, config)
    return rows[suppress(frame.mask_iou[np.ix_(rows, rows)], config.mask_nms)]


_shared: list[tuple[Cache, int | None]] = []  # of a worker process, handed over once


def share(cache: Cache, ahead: int | None) -> None:
    """Keep a cache in this process for `score_shared`."""
    _shared[:] = [(cache, ahead)]


def score_shared(config: TrackerConfig) -> float:
    """The track AP of these constants on the cache of this process."""
    ((cache, ahead),) = _shared
    return average_precision(cache, config, linked(ahead))
