"""An offline model over recorded videos: the same result list as online tracking, for any length of video.

A video no longer than the window is seen in one pass. A longer one is seen in windows that share some frames;
tracks of two windows are joined where their masks agree on the shared frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from ookd.clips.sources import ClipSource
from ookd.config.tracker import OfflineConfig
from ookd.data import rle
from ookd.masks import Geometry, full_size
from ookd.models.families import family_of
from ookd.models.protocols import OfflineModel
from ookd.structures import Dataset, Rle, TrackResult
from ookd.tracking.frame_model import Image
from ookd.tracking.predict import Recording, category_ids, recordings
from ookd.tracking.select import Bools, Floats, suppress
from ookd.tracking.torch_model import device_of, prepare


@dataclass(slots=True)
class WindowTracks:
    """Tracks of one window."""

    probs: Floats  # [N, K]
    masks: Bools  # [N, T, h, w] at the model's mask stride
    logits: Floats  # [N, T, h, w]


@dataclass(slots=True)
class JoinedTrack:
    """A track over the windows so far."""

    probs: Floats  # [K] sum over windows, each weighted by its frames
    frames: int
    masks: list[Rle | None]  # one a frame
    last: Bools  # [shared, h, w] where it was on the last frames


def predict_offline(
    model: OfflineModel,
    source: Dataset | ClipSource,
    config: OfflineConfig,
    names: Sequence[str] | None = None,
) -> list[TrackResult]:
    """All results of all videos. Without `names` the model's classes are the source's, in its order."""
    if names is None:
        names = [c.name for c in source.categories] if isinstance(source, Dataset) else source.names
    categories = category_ids(source, names)
    return [
        result
        for recording in recordings(source)
        for result in predict_recording(model, recording, config, categories)
    ]


def predict_recording(
    model: OfflineModel, recording: Recording, config: OfflineConfig, categories: Sequence[int | None]
) -> Iterator[TrackResult]:
    """All results of one video; `categories` are the data set's numbers of the model's classes."""
    for track in track_offline(model, recording.images(), config):
        probs = track.probs / track.frames
        for label in np.flatnonzero(probs > config.final_score).tolist():
            category = categories[label]
            if category is not None:
                yield TrackResult(recording.id, category, float(probs[label]), track.masks)


def track_offline(model: OfflineModel, images: Iterator[Image], config: OfflineConfig) -> list[JoinedTrack]:
    """The tracks of one video."""
    tracks: list[JoinedTrack] = []
    held: list[Image] = []
    done = 0
    while fresh := list(islice(images, config.window - len(held))):
        clip = held + fresh
        seen, geometries = look(model, clip, config)
        _join(tracks, seen, geometries, len(held), done, config)
        done += len(fresh)
        held = clip[-config.shared :]
    return tracks


@torch.inference_mode()
def look(
    model: OfflineModel, clip: Sequence[Image], config: OfflineConfig
) -> tuple[WindowTracks, list[Geometry]]:
    """One window: the clip queries that are sure enough, duplicates suppressed."""
    device, training = device_of(model), model.training
    model.eval()
    family = family_of(model)
    frames, pad, geometries = prepare(clip, config.short_side, family.preprocessing, device)
    queries = model(family.preprocessing.normalise(frames, pad)[None], pad[None])
    model.train(training)
    probs = family.class_logits(queries.logits[0]).float().sigmoid().cpu().numpy()
    best = probs.max(1)
    order = np.argsort(-best, kind="stable")
    order = order[best[order] > config.final_score]
    select = torch.from_numpy(order).to(device)[None]
    logits = queries.masks(select)[0].float().cpu().numpy()  # [N, T, h, w]
    stride = frames.shape[-2] // logits.shape[-2]
    geometries = [replace(geometry, stride=stride) for geometry in geometries]
    masks = logits > 0
    flat = masks.reshape(len(masks), np.prod(masks.shape[1:], dtype=int)).astype(np.float32)  # maybe none
    shared = flat @ flat.T
    area = flat.sum(1)
    union = area[:, None] + area - shared
    kept = suppress((shared + 1e-6) / (union + 1e-6), config.tube_nms)
    kept = kept[area[kept] > 0]
    return WindowTracks(probs[order][kept], masks[kept], logits[kept]), geometries


def _join(
    tracks: list[JoinedTrack],
    seen: WindowTracks,
    geometries: list[Geometry],
    held: int,
    done: int,
    config: OfflineConfig,
) -> None:
    """Append a window's tracks to those they continue; the others are new. `done` frames came before."""
    partner = _partners(tracks, seen, held, config.join)
    fresh = len(geometries) - held
    encoded = _encode(seen.logits[:, held:], geometries[held:])
    for track in tracks:
        track.masks += [None] * fresh
        track.last = np.zeros_like(track.last)
    for n, (probs, masks) in enumerate(zip(seen.probs, encoded, strict=True)):
        last = seen.masks[n, -config.shared :]
        weight = len(geometries)
        if n in partner:
            track = tracks[partner[n]]
            track.masks[-fresh:] = masks
            track.probs, track.frames, track.last = track.probs + probs * weight, track.frames + weight, last
        else:
            tracks.append(JoinedTrack(probs * weight, weight, [*([None] * done), *masks], last))


def _partners(tracks: list[JoinedTrack], seen: WindowTracks, held: int, least: float) -> dict[int, int]:
    """Which earlier track each of the window's tracks continues."""
    if not tracks or not len(seen.probs):
        return {}
    old = np.stack([track.last[-held:] for track in tracks]).reshape(len(tracks), -1).astype(np.float32)
    new = seen.masks[:, :held].reshape(len(seen.masks), -1).astype(np.float32)
    shared = new @ old.T
    iou = shared / np.maximum(new.sum(1)[:, None] + old.sum(1) - shared, 1)
    rows, columns = linear_sum_assignment(-iou)
    return {int(n): int(t) for n, t in zip(rows, columns, strict=True) if iou[n, t] >= least}


def _encode(logits: Floats, geometries: list[Geometry]) -> list[list[Rle | None]]:
    """Full-size masks frame by frame [N][T]; None where a track is not in view."""
    columns = []
    for t, geometry in enumerate(geometries):
        masks, _ = full_size(logits[:, t], geometry)
        rles = rle.encode_many(masks)
        columns.append([mask if masks[n].any() else None for n, mask in enumerate(rles)])
    return [list(row) for row in zip(*columns, strict=True)]
