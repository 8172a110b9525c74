"""Pictures of validation videos: a few frames each, with the truth above and the prediction below.

A predicted track has the colour of the true track that it covers best. So a colour that moves from one object
to another is an identity switch, and a colour that no true track has is a false alarm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import cv2
import numpy as np
from numpy.typing import NDArray

from ookd.clips.sources import ClipSource
from ookd.data import rle
from ookd.drawing.html import Picture
from ookd.drawing.overlay import Overlay
from ookd.structures import Dataset, FrameResult, Rle, TrackResult, Video
from ookd.tracking.recordings import recordings

VIDEOS, FRAMES, WIDTH = 3, 4, 360  # videos shown, frames of each, width of a frame in pixels
MIN_SCORE = 0.3  # of a predicted track that is drawn
LONGEST = 60  # only the first frames are shown, because videos are read from their beginning

Masks = NDArray[np.bool_]  # [N, F, H, W]


@dataclass(slots=True)
class _ShownTracks:
    """Tracks in the frames that are shown."""

    ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    masks: Masks

    def at(self, frame: int, image: NDArray[np.uint8], names: Sequence[str]) -> FrameResult:
        seen = np.flatnonzero(self.masks[:, frame].any((1, 2)))
        masks = self.masks[seen, frame]
        boxes = np.array([_box(mask) for mask in masks], np.float32).reshape(-1, 4)
        return FrameResult(
            frame, self.ids[seen], self.labels[seen], self.scores[seen], boxes, masks, names, image
        )


def samples(source: ClipSource, truth: Dataset, results: Sequence[TrackResult]) -> list[Picture]:
    """Pictures of the first videos, the same ones in every validation."""
    return [
        _sample(source, truth, place, [result for result in results if result.video_id == video.id])
        for place, video in enumerate(truth.videos[:VIDEOS])
    ]


def _sample(source: ClipSource, truth: Dataset, place: int, results: list[TrackResult]) -> Picture:
    video = truth.videos[place]
    names = [category.name for category in truth.categories]
    length = min(video.length, LONGEST)
    frames = np.linspace(0, length - 1, min(FRAMES, length)).round().astype(int).tolist()
    images = dict(enumerate(islice(recordings(source)[place].images(), frames[-1] + 1)))
    label_of = truth.label_of()
    true = _tracks(
        video,
        frames,
        [(track.id, label_of[track.category_id], 1.0, track.segmentations) for track in video.tracks],
    )
    best = _best_class_of_each(results)
    found = _tracks(
        video,
        frames,
        [(0, label_of[track.category_id], track.score, track.segmentations) for track in best],
    )
    true.ids = np.arange(len(true.ids))
    found.ids = _colours(found.masks, true.masks)
    rows = [_row(tracks, frames, images, names) for tracks in (true, found)]
    gap = np.full((6, rows[0].shape[1], 3), 255, np.uint8)
    caption = (
        f"video {video.id}, frames {', '.join(map(str, frames))}: {len(true.ids)} objects, "
        f"{len(found.ids)} tracks with a score of {MIN_SCORE:g} or more"
    )
    return Picture.of(caption, np.concatenate([rows[0], gap, rows[1]]))


def _best_class_of_each(results: list[TrackResult]) -> list[TrackResult]:
    """Each track once: a result list may name the same masks under several classes."""
    best: dict[tuple[str, ...], TrackResult] = {}
    for result in sorted(results, key=lambda result: -result.score):
        key = tuple("" if mask is None else mask["counts"] for mask in result.segmentations)
        if result.score >= MIN_SCORE:
            best.setdefault(key, result)
    return list(best.values())


def _tracks(
    video: Video, frames: Sequence[int], rows: Sequence[tuple[int, int, float, Sequence[Rle | None]]]
) -> _ShownTracks:
    masks = np.zeros((len(rows), len(frames), video.height, video.width), np.bool_)
    for n, (*_, segmentations) in enumerate(rows):
        for f, frame in enumerate(frames):
            if segmentations[frame] is not None:
                masks[n, f] = rle.decode(rle.from_any(segmentations[frame], video.height, video.width))
    ids, labels, scores = (np.array([row[i] for row in rows]) for i in range(3))
    return _ShownTracks(ids.astype(np.int64), labels.astype(np.int64), scores.astype(np.float32), masks)


def _colours(found: Masks, true: Masks) -> NDArray[np.int64]:
    """The number of the true track that each predicted one covers best, or a new number if it covers none."""
    own = len(true) + np.arange(len(found))
    if not len(true) or not len(found):
        return own
    a, b = (x.reshape(len(x), -1).astype(np.float32) for x in (found, true))
    shared = a @ b.T
    return np.where(shared.max(1) > 0, shared.argmax(1), own)


def _row(
    tracks: _ShownTracks, frames: Sequence[int], images: dict[int, NDArray[np.uint8]], names: Sequence[str]
) -> NDArray[np.uint8]:
    """[h, FRAMES * WIDTH, 3] the tracks drawn over their frames, side by side."""
    overlay = Overlay()
    pictures = []
    for f, frame in enumerate(frames):
        drawn = overlay.draw(_enlarged(tracks.at(f, images[frame], names)))
        pictures += [drawn, np.full((len(drawn), 4, 3), 255, np.uint8)]
    return np.concatenate(pictures[:-1], 1)


def _enlarged(result: FrameResult) -> FrameResult:
    """The result at the width shown, so that names are readable."""
    scale = WIDTH / result.image.shape[1]
    size = (WIDTH, max(1, round(result.image.shape[0] * scale)))
    result.image = np.asarray(cv2.resize(result.image, size, interpolation=cv2.INTER_AREA), np.uint8)
    masks = [
        cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) for mask in result.masks
    ]
    result.masks = np.array(masks, np.bool_).reshape(-1, size[1], size[0])
    result.boxes_xyxy = result.boxes_xyxy * np.float32(scale)
    return result


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    y, x = np.nonzero(mask)
    return int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1
