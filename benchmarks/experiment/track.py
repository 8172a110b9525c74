"""One pass of an online model over videos, tracked with several sets of constants at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ookd.models.protocols import OnlineModel

from ookd.clips.sources import ClipSource
from ookd.config.tracker import TrackerConfig
from ookd.masks import Floats
from ookd.structures import TrackResult
from ookd.tracking.predict import detect_video
from ookd.tracking.recordings import category_ids, recordings
from ookd.tracking.select import Detections, mask_iou, select_queries, suppress
from ookd.tracking.video_tracker import VideoTracker


def track_with(
    model: OnlineModel, source: ClipSource, names: Sequence[str], configs: Sequence[TrackerConfig]
) -> list[list[TrackResult]]:
    """The results of each config, the same as `predict` gives one after the other."""
    loose = configs[0].model_copy(
        update={
            "select_score": min(config.select_score for config in configs),
            "box_nms": 1.0,
            "mask_nms": 1.0,
        }
    )
    categories = category_ids(source, names)
    results: list[list[TrackResult]] = [[] for _ in configs]
    for recording in recordings(source):
        trackers = [VideoTracker(config, final=True) for config in configs]
        for found in detect_video(model, recording.images(), loose):
            iou = mask_iou(found.masks > 0)
            for tracker, config in zip(trackers, configs, strict=True):
                tracker.step(_select(found, iou, config))
        for every, tracker in zip(results, trackers, strict=True):
            every += tracker.results.tracks(recording.id, categories)
    return results


def _select(found: Detections, iou: Floats, config: TrackerConfig) -> Detections:
    """The detections that these constants select among loosely selected ones."""
    rows = select_queries(found.probs, found.boxes, config)
    rows = rows[suppress(iou[np.ix_(rows, rows)], config.mask_nms)]
    arrays = (found.probs, found.embeds, found.places, found.query)
    return Detections(*(array[rows] for array in arrays), None, found.masks[rows], found.geometry)
