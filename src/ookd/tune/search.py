"""Search for a model's tracker constants: they move AP more than most changes to the model do.

The model sees the videos once. Its predictions are kept in a `Cache`, and each trial of other constants only
replays the tracking. The gain must be measured on videos that the search did not see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from multiprocessing import get_context
from typing import Any

import numpy as np

from ookd.clips.sources import ClipSource
from ookd.config.tracker import TrackerConfig
from ookd.data import rle
from ookd.errors import UserError
from ookd.models.protocols import OnlineModel
from ookd.structures import Dataset, Video
from ookd.tracking import linker
from ookd.tracking.associators import make_associator
from ookd.tracking.associators.ranges import Between, Choice, Range, Steps
from ookd.tracking.frame_model import FrameModel
from ookd.tracking.predict import detect_video
from ookd.tracking.recordings import category_ids, recordings
from ookd.tracking.select import Detections, mask_iou
from ookd.tune.replay import (
    Cache,
    CachedFrame,
    CachedVideo,
    average_precision,
    linked,
    score_shared,
    share,
)

LOOSEST = 0.05  # the lowest score of a query that the search may select
# constants that every associator has
ANY_TRACKER: Mapping[str, Range] = {
    "select_score": Between(LOOSEST, 0.3),
    "mask_nms": Between(0.2, 0.9),
    "first_score": Between(LOOSEST, 0.7),
    "new_score": Between(LOOSEST, 0.7),
    "pool": Choice("mean", "max"),
    "doubt": Between(0.0, 8.0),
}
NEAR = 0.1  # standard deviation of a neighbour, as a share of a number's range
BATCH = 8  # trials drawn at once, so that the outcome does not depend on the number of processes


@dataclass(frozen=True, slots=True)
class Tuned:
    """The best constants found, and their AP beside that of the start, on the videos searched."""

    config: TrackerConfig
    ap: float
    start_ap: float


def cache_queries(
    model: OnlineModel | FrameModel,
    source: Dataset | ClipSource,
    truth: Dataset,
    names: Sequence[str],
    start: TrackerConfig,
    on_frame: Callable[[], None] = lambda: None,
) -> Cache:
    """One pass of the model over all videos; `truth` holds their annotations under the same video ids.

    `start` says at which size the model sees the frames, and can itself be replayed.
    """
    score = min(LOOSEST, start.select_score)
    loose = start.model_copy(update={"select_score": score, "box_nms": 1.0, "mask_nms": 1.0})
    label_of = truth.label_of()
    categories = category_ids(truth, names)
    videos = {video.id: video for video in truth.videos}
    cached = []
    for recording in recordings(source):
        video = videos.get(recording.id)
        if video is None:
            raise UserError(f"video {recording.id} has no annotations to tune against")
        frames = detect_video(model, recording.images(), loose)
        cached.append(_cached_video(video, frames, label_of, on_frame))
    if all(video.crowd.all() for video in cached):
        raise UserError("no video has a track to tune against")
    return Cache(
        cached,
        np.array([-1 if number is None else label_of[number] for number in categories], np.int64),
        len(truth.categories),
    )


def tune(
    cache: Cache,
    start: TrackerConfig,
    trials: int = 200,
    seed: int = 0,
    jobs: int = 1,
    on_trials: Callable[[int, float], None] = lambda done, best: None,
    ahead: int | None = 0,
) -> Tuned:
    """Search from `start` for the constants with the highest track AP; same seed, same outcome.

    The associator and the kind of similarity stay: they belong to how a model was trained. With frames
    `ahead`, only what links tracks is searched. Every few trials `on_trials` is called with the number done
    and the best AP so far.
    """
    ranges = linker.RANGES if ahead != 0 else {**ANY_TRACKER, **make_associator(start).ranges}
    values = values_of(start, ranges)
    start_ap = average_precision(cache, start, linked(ahead))
    with _parallel(cache, ahead, jobs) as evaluate:

        def score(drawn: list[dict[str, Any]]) -> Iterator[float]:
            return evaluate([start.changed(changes) for changes in drawn])

        changes, ap = maximise(ranges, score, start_ap, trials, seed, on_trials, values)
    return Tuned(start.changed(changes), ap, start_ap)


def maximise(
    ranges: Mapping[str, Range],
    score: Callable[[list[dict[str, Any]]], Iterable[float]],
    least: float,
    trials: int,
    seed: int = 0,
    on_trials: Callable[[int, float], None] = lambda done, best: None,
    start: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], float]:
    """The values with the best score above `least`, and that score; those of `start` if nothing is above it.

    `score` gets the values of several trials at once. The first ones are those of `start`, if there are any;
    half of the others are neighbours of the best so far.
    """
    try:
        import optuna
    except ImportError:
        raise UserError("tuning needs Optuna: pip install 'ookd[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=24, multivariate=True, constant_liar=True
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    chance = np.random.default_rng(seed)
    best: tuple[dict[str, Any], float] = dict(start or {}), least
    near = [_inside(ranges, start)] if start else []
    for first in range(0, trials, BATCH):
        for values in near:
            study.enqueue_trial(values)
        asked = [study.ask() for _ in range(min(BATCH, trials - first))]
        drawn = [_draw(trial, ranges) for trial in asked]
        for trial, values, reached in zip(asked, drawn, score(drawn), strict=True):
            study.tell(trial, reached)
            if reached > best[1]:
                best = values, reached
        on_trials(first + len(asked), best[1])
        near = [_neighbour(best[0], ranges, chance) for _ in range(BATCH // 2)] if best[0] else []
    return best


def values_of(config: TrackerConfig, ranges: Mapping[str, Range]) -> dict[str, Any]:
    """The values of a search's constants in a configuration; "link.match" is the `match` of `link`."""
    return {name: reduce(getattr, name.split("."), config) for name in ranges}


def _inside(ranges: Mapping[str, Range], values: Mapping[str, Any]) -> dict[str, Any]:
    """The nearest values that the ranges hold. What is no choice of a search is left to chance."""
    inside: dict[str, Any] = {}
    for name, value in values.items():
        match ranges[name]:
            case Choice(values=choices):
                if value in choices:
                    inside[name] = value
            case Steps() | Between() as among:
                inside[name] = min(max(value, among.low), among.high)
    return inside


def _neighbour(
    values: Mapping[str, Any], ranges: Mapping[str, Range], chance: np.random.Generator
) -> dict[str, Any]:
    """Some of the values changed: a choice to any other, a number by about a tenth of its range."""
    changed = dict(_inside(ranges, values))
    for name in chance.permutation(list(ranges))[: max(1, len(ranges) // 4)]:
        match ranges[name]:
            case Choice(values=choices):
                changed[name] = choices[chance.integers(len(choices))]
            case Between(low, high, log=False):
                changed[name] = changed[name] + NEAR * (high - low) * chance.standard_normal()
            case among:
                changed[name] *= (among.high / among.low) ** (NEAR * chance.standard_normal())
                if isinstance(among, Steps):
                    changed[name] = round(changed[name])
    return _inside(ranges, changed)


def _draw(trial: Any, ranges: Mapping[str, Range]) -> dict[str, Any]:
    """The values of one of Optuna's trials."""
    drawn: dict[str, Any] = {}
    for name, among in ranges.items():
        match among:
            case Choice():
                drawn[name] = trial.suggest_categorical(name, among.values)
            case Steps():
                drawn[name] = trial.suggest_int(name, among.low, among.high, log=True)
            case Between():
                drawn[name] = trial.suggest_float(name, among.low, among.high, log=among.log)
    return drawn


@contextmanager
def _parallel(
    cache: Cache, ahead: int | None, jobs: int
) -> Iterator[Callable[[list[TrackerConfig]], Iterator[float]]]:
    """A function that scores many constants, in this process or in `jobs` others that each hold the cache."""
    if jobs == 1:
        yield lambda configs: (average_precision(cache, config, linked(ahead)) for config in configs)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn"), share, (cache, ahead)) as pool:
        yield lambda configs: pool.map(score_shared, configs)


def _cached_video(
    video: Video,
    frames: Iterator[Detections],
    label_of: dict[int, int],
    on_frame: Callable[[], None],
) -> CachedVideo:
    cached, truth_area = [], []
    pixels = video.height * video.width
    for t, detections in enumerate(frames):
        truth = np.zeros((len(video.tracks), pixels), np.float32)
        for g, track in enumerate(video.tracks):
            if track.segmentations[t] is not None:
                truth[g] = rle.decode(rle.of_track(video, track, t)).ravel()
        truth_area.append(truth.sum(1))
        everything = np.arange(len(detections))
        full, boxes = detections.full_size(everything)
        masks = full.reshape(-1, pixels).astype(np.float32)
        overlap = np.concatenate([masks.sum(1, keepdims=True), masks @ truth.T], 1).astype(np.int64)
        iou = mask_iou(detections.masks > 0)
        cached.append(CachedFrame(detections.at(everything), detections.boxes, boxes, iou, overlap))
        on_frame()
    return CachedVideo(
        video.id,
        cached,
        np.array(truth_area, np.int64).reshape(len(cached), len(video.tracks)),
        np.array([label_of[track.category_id] for track in video.tracks], np.int64),
        np.array([track.iscrowd for track in video.tracks], bool),
    )
