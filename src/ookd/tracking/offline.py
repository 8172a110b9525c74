"""An offline model over a recorded video of any length.

A video that fits into the window is processed in one pass, a longer one in overlapping windows. Tracks of two
windows are joined where their masks agree on the shared frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from ookd.config.tracker import OfflineConfig
from ookd.data import rle
from ookd.masks import Bools, Floats, Geometry, full_size
from ookd.models.families import family_of
from ookd.models.protocols import OfflineModel
from ookd.structures import Rle, TrackResult
from ookd.tracking.frame_model import Image
from ookd.tracking.results import reported_classes
from ookd.tracking.select import suppress
from ookd.tracking.torch_model import device_of, prepare


@dataclass(slots=True)
class WindowTracks:
    """Tracks of one window."""

    probs: Floats  # [N, K]
    masks: Bools  # [N, T, h, w] at the model's mask stride
    logits: Floats  # [N, T, h, w]
    geometries: list[Geometry]  # T


@dataclass(slots=True)
class JoinedTrack:
    """A track over the windows so far."""

    probs: Floats  # [K] sum over windows, each weighted by its frames
    frames: int
    masks: list[Rle | None]  # one a frame
    sure: list[float]  # [frames] mean probability of the pixels of each mask
    last: Bools  # [shared, h, w] masks of the last frames

    def frame_scores(self, score: float) -> list[float | None]:
        """The confidence of each frame, given that of the whole track."""
        seen = zip(self.masks, self.sure, strict=True)
        return [None if mask is None else score * sure for mask, sure in seen]


def track_offline(model: OfflineModel, images: Iterator[Image], config: OfflineConfig) -> list[JoinedTrack]:
    """The tracks of one video."""
    tracks: list[JoinedTrack] = []
    shared: list[Image] = []  # last frames of the window before
    done = 0
    while fresh := list(islice(images, config.window - len(shared))):
        window = infer_window(model, shared + fresh, config)
        _join(tracks, window, len(shared), done, config)
        done += len(fresh)
        shared = (shared + fresh)[-config.shared :]
    return tracks


def track_results(
    tracks: list[JoinedTrack], video_id: int, categories: Sequence[int | None], config: OfflineConfig
) -> Iterator[TrackResult]:
    """One result per track and class; `categories` are the data set's numbers of the classes."""
    for track in tracks:
        for label, score in reported_classes(track.probs / track.frames, config):
            category = categories[label]
            if category is not None:
                yield TrackResult(video_id, category, score, track.masks, track.frame_scores(score))


@torch.inference_mode()
def infer_window(model: OfflineModel, images: Sequence[Image], config: OfflineConfig) -> WindowTracks:
    """The clip queries of one window whose score is high enough, without duplicates."""
    device, family = device_of(model), family_of(model)
    frames, pad, geometries = prepare(images, config.short_side, family.preprocessing, device)
    queries = model(family.preprocessing.normalise(frames, pad)[None], pad[None])
    probs = family.class_logits(queries.logits[0]).float().sigmoid().cpu().numpy()
    best = probs.max(1)
    order = np.argsort(-best, kind="stable")
    order = order[best[order] > config.final_score]
    select = torch.from_numpy(order).to(device)[None]
    logits = queries.masks(select)[0].float().cpu().numpy()  # [N, T, h, w]
    stride = frames.shape[-2] // logits.shape[-2]
    masks = logits > 0
    flat = masks.reshape(len(masks), np.prod(masks.shape[1:], dtype=int)).astype(np.float32)  # N may be 0
    inter = flat @ flat.T
    area = flat.sum(1)
    union = area[:, None] + area - inter
    kept = suppress((inter + 1e-6) / (union + 1e-6), config.tube_nms)
    kept = kept[area[kept] > 0]
    geometries = [replace(geometry, stride=stride) for geometry in geometries]
    return WindowTracks(probs[order][kept], masks[kept], logits[kept], geometries)


def _join(
    tracks: list[JoinedTrack], window: WindowTracks, shared: int, done: int, config: OfflineConfig
) -> None:
    """Append a window's tracks to those they continue; the others are new. `done` frames came before."""
    partner = _partners(tracks, window, shared, config.join)
    length = len(window.geometries)
    fresh = length - shared
    encoded = _encode(window.logits[:, shared:], window.geometries[shared:])
    for track in tracks:
        track.masks += [None] * fresh
        track.sure += [0.0] * fresh
        track.last = np.zeros_like(track.last)
    sure = _mean_inside(window.logits[:, shared:])
    for n, (probs, masks) in enumerate(zip(window.probs, encoded, strict=True)):
        last = window.masks[n, -config.shared :]
        if n in partner:
            track = tracks[partner[n]]
            track.masks[-fresh:], track.sure[-fresh:] = masks, sure[n]
            track.probs, track.frames, track.last = track.probs + probs * length, track.frames + length, last
        else:
            before: list[Rle | None] = [None] * done
            tracks.append(JoinedTrack(probs * length, length, before + masks, [0.0] * done + sure[n], last))


def _mean_inside(logits: Floats) -> list[list[float]]:
    """[N][T] the mean probability inside each mask."""
    inside = logits > 0
    probability = inside / (1 + np.exp(-np.maximum(logits, 0)))
    mean: list[list[float]] = (probability.sum((2, 3)) / np.maximum(inside.sum((2, 3)), 1)).tolist()
    return mean


def _partners(tracks: list[JoinedTrack], window: WindowTracks, shared: int, least: float) -> dict[int, int]:
    """Which earlier track each of the window's tracks continues."""
    if not tracks or not len(window.probs):
        return {}
    old = np.stack([track.last[-shared:] for track in tracks]).reshape(len(tracks), -1).astype(np.float32)
    new = window.masks[:, :shared].reshape(len(window.masks), -1).astype(np.float32)
    inter = new @ old.T
    iou = inter / np.maximum(new.sum(1)[:, None] + old.sum(1) - inter, 1)
    rows, columns = linear_sum_assignment(-iou)
    return {int(n): int(t) for n, t in zip(rows, columns, strict=True) if iou[n, t] >= least}


def _encode(logits: Floats, geometries: list[Geometry]) -> list[list[Rle | None]]:
    """Full-size masks frame by frame [N][T]; None where a track is not visible."""
    columns = []
    for t, geometry in enumerate(geometries):
        masks, _ = full_size(logits[:, t], geometry)
        rles = rle.encode_many(masks)
        columns.append([mask if masks[n].any() else None for n, mask in enumerate(rles)])
    return [list(row) for row in zip(*columns, strict=True)]
