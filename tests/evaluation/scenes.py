"""Small worlds of boxes with known overlap, and random ones full of trouble."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ookd.data import rle
from ookd.structures import Category, Dataset, Rle, Track, TrackResult, Video

H, W = 40, 60
Box = tuple[int, int, int, int]  # left, top, right, bottom


def mask(box: Box | None, height: int = H, width: int = W) -> Rle | None:
    if box is None:
        return None
    filled = np.zeros((height, width), bool)
    filled[box[1] : box[3], box[0] : box[2]] = True
    return rle.encode(filled)


def tube(*boxes: Box | None) -> list[Rle | None]:
    return [mask(box) for box in boxes]


def truth(
    tracks: list[tuple[int, int, list[Any]]], categories: int = 3, frames: int = 4, videos: int = 2
) -> Dataset:
    """Tracks as (video, category, masks); ids count from 1."""
    dataset = Dataset(
        [Category(k + 1, f"class{k + 1}") for k in range(categories)],
        [Video(v + 1, W, H, [f"{v + 1}/{t}.jpg" for t in range(frames)]) for v in range(videos)],
    )
    for i, (video, category, masks) in enumerate(tracks):
        areas = [None if m is None else float(rle.area(m)) for m in masks]
        dataset.videos[video - 1].tracks.append(Track(i + 1, category, masks, [None] * len(masks), areas))
    return dataset


def as_json(dataset: Dataset) -> dict[str, Any]:
    """The annotation file of a data set."""
    return {
        "info": {},
        "categories": [{"id": c.id, "name": c.name} for c in dataset.categories],
        "videos": [
            {"id": v.id, "width": v.width, "height": v.height, "length": v.length, "file_names": v.file_names}
            for v in dataset.videos
        ],
        "annotations": [
            {
                "id": t.id,
                "video_id": v.id,
                "category_id": t.category_id,
                "iscrowd": int(t.iscrowd),
                "segmentations": t.segmentations,
                "areas": t.areas,
                "bboxes": t.boxes_xywh,
                **t.extra,
            }
            for v in dataset.videos
            for t in v.tracks
        ],
    }


def results_json(results: list[TrackResult]) -> list[dict[str, Any]]:
    names = ("video_id", "category_id", "score", "segmentations")
    return [{name: getattr(result, name) for name in names} for result in results]


def copied(
    dataset: Dataset, results: list[TrackResult], times: NDArray[np.int64]
) -> tuple[Dataset, list[TrackResult]]:
    """The set in which each video stands so many times."""
    videos: list[Video] = []
    copies: list[TrackResult] = []
    for video, count in zip(dataset.videos, times, strict=True):
        for _ in range(count):
            videos.append(replace(video, id=len(videos) + 1))
            copies += [replace(r, video_id=len(videos)) for r in results if r.video_id == video.id]
    return replace(dataset, videos=videos), copies


def random_world(
    seed: int, videos: int = 4, frames: int = 6, categories: int = 3, crowd: bool = False
) -> tuple[Dataset, list[TrackResult]]:
    """Moving boxes; predictions with jitter, gaps, swaps, wrong classes, duplicates, noise, tied scores."""
    rng = np.random.default_rng(seed)
    paths: list[tuple[int, int, list[Box | None]]] = []
    for video in range(1, videos + 1):
        for _ in range(rng.integers(0, 5)):
            paths.append((video, int(rng.integers(1, categories + 1)), _path(rng, frames)))
    dataset = truth([(v, c, tube(*path)) for v, c, path in paths], categories, frames, videos)
    if crowd:
        for video in dataset.videos:
            for track in video.tracks:
                track.iscrowd = bool(rng.random() < 0.25)
    results = []
    for video, category, path in paths:
        for _ in range(rng.integers(0, 4)):
            boxes = [_jitter(rng, box) if rng.random() < 0.85 else None for box in path]
            other = paths[rng.integers(len(paths))]
            if other[0] == video and rng.random() < 0.4:
                cut = int(rng.integers(1, frames))
                boxes[cut:] = [_jitter(rng, box) for box in other[2][cut:]]
            label = category if rng.random() < 0.8 else int(rng.integers(1, categories + 1))
            results.append(TrackResult(video, label, float(rng.integers(1, 11)) / 10, tube(*boxes)))
    for _ in range(rng.integers(0, 6)):
        video, label = int(rng.integers(1, videos + 1)), int(rng.integers(1, categories + 1))
        results.append(TrackResult(video, label, float(rng.random()), tube(*_path(rng, frames))))
    order = rng.permutation(len(results))
    return dataset, [results[i] for i in order]


def _path(rng: np.random.Generator, frames: int) -> list[Box | None]:
    w, h = rng.integers(6, 26, 2)
    start, speed = rng.uniform(0, [W - w, H - h]), rng.uniform(-4, 4, 2)
    boxes: list[Box | None] = []
    for t in range(frames):
        x, y = np.clip((start + speed * t).round(), 0, [W - w, H - h]).astype(int).tolist()
        boxes.append((x, y, x + int(w), y + int(h)) if rng.random() < 0.9 else None)
    return boxes


def _jitter(rng: np.random.Generator, box: Box | None) -> Box | None:
    if box is None:
        return None
    left, top, right, bottom = (np.array(box) + rng.integers(-2, 3, 4)).tolist()
    left, top = max(0, left), max(0, top)
    return left, top, min(W, max(right, left + 1)), min(H, max(bottom, top + 1))
