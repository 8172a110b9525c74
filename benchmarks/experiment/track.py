"""One pass of an online model over videos, tracked with several sets of constants at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from ookd.clips.sources import ClipSource
from ookd.config.tracker import TrackerConfig
from ookd.data import rle
from ookd.masks import Geometry, full_size
from ookd.structures import TrackResult
from ookd.tracking.memory import Memory
from ookd.tracking.predict import category_ids, observe_video, recordings
from ookd.tracking.results import VideoResults
from ookd.tracking.select import DetectionFeatures, Detections, Floats, mask_iou, select_queries, suppress
from ookd.tracking.tracker import advance


def track_with(
    model: nn.Module, source: ClipSource, names: Sequence[str], configs: Sequence[TrackerConfig]
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
        trackers = [_Tracker(config, VideoResults(config)) for config in configs]
        for seen, geometry in observe_video(model, recording.images(), loose):
            iou = mask_iou(seen.masks > 0)
            for tracker in trackers:
                tracker.step(seen, iou, geometry)
        for found, tracker in zip(results, trackers, strict=True):
            found += tracker.results.tracks(recording.id, categories)
    return results


@dataclass(slots=True)
class _Tracker:
    config: TrackerConfig
    results: VideoResults
    memory: Any = None

    def step(self, seen: Detections, iou: Floats, geometry: Geometry) -> None:
        if self.memory is None:
            self.memory = Memory.empty(seen.probs.shape[1], seen.embeds.shape[1], self.config)
        query = select_queries(seen.probs, seen.boxes, self.config)
        query = query[suppress(iou[np.ix_(query, query)], self.config.mask_nms)]
        chosen = DetectionFeatures(seen.probs[query], seen.embeds[query], seen.places[query])
        ids, self.memory = advance(self.memory, chosen, self.config)
        known = np.flatnonzero(ids >= 0)
        masks, _ = full_size(seen.masks[query[known]], geometry)
        self.results.add(ids[known], chosen.probs[known], rle.encode_many(masks))
