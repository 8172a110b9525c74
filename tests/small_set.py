"""A small annotated set on disk whose every number is known by hand.

Two videos of 12 x 8 pixels, classes cat (3) and dog (1). In "a" a cat moves right by one pixel a frame, and a
dog is not seen in frame 1. "b" has one frame, with a ring-shaped dog.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 12, 8


def rectangle(x: int, y: int, width: int, height: int) -> dict[str, Any]:
    """Uncompressed run lengths, column by column."""
    mask = np.zeros((HEIGHT, WIDTH), int)
    mask[y : y + height, x : x + width] = 1
    return counted(mask)


def ring() -> dict[str, Any]:
    """6 x 6 with a hole of 2 x 2 in its middle, at x 2, y 1."""
    mask = np.zeros((HEIGHT, WIDTH), int)
    mask[1:7, 2:8] = 1
    mask[3:5, 4:6] = 0
    return counted(mask)


def counted(mask: Any) -> dict[str, Any]:
    flat = mask.T.ravel()
    change = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *change, len(flat)]).tolist()
    return {"size": list(mask.shape), "counts": runs if flat[0] == 0 else [0, *runs]}


def document() -> dict[str, Any]:
    return {
        "categories": [{"id": 3, "name": "cat"}, {"id": 1, "name": "dog"}],
        "videos": [
            {
                "id": 1,
                "width": WIDTH,
                "height": HEIGHT,
                "length": 3,
                "file_names": ["a/00000.png", "a/00001.png", "a/00002.png"],
            },
            {"id": 2, "width": WIDTH, "height": HEIGHT, "length": 1, "file_names": ["b/00000.png"]},
        ],
        "annotations": [
            {
                "id": 1,
                "video_id": 1,
                "category_id": 3,
                "iscrowd": 0,
                "segmentations": [rectangle(1, 1, 4, 3), rectangle(2, 1, 4, 3), rectangle(3, 1, 4, 3)],
                "bboxes": [[1.0, 1.0, 4.0, 3.0], [2.0, 1.0, 4.0, 3.0], [3.0, 1.0, 4.0, 3.0]],
                "areas": [12, 12, 12],
            },
            {
                "id": 2,
                "video_id": 1,
                "category_id": 1,
                "iscrowd": 0,
                "segmentations": [rectangle(5, 4, 2, 2), None, rectangle(8, 4, 2, 2)],
                "bboxes": [[5.0, 4.0, 2.0, 2.0], None, [8.0, 4.0, 2.0, 2.0]],
                "areas": [4, None, 4],
            },
            {
                "id": 3,
                "video_id": 2,
                "category_id": 1,
                "iscrowd": 0,
                "segmentations": [ring()],
                "bboxes": [[2.0, 1.0, 6.0, 6.0]],
                "areas": [32],
            },
        ],
    }


def image(video: str, frame: int) -> Any:
    """[H, W, 3], different for every frame."""
    seed = np.random.default_rng([ord(video), frame])
    return seed.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def write_set(folder: Path, content: Any = None) -> Path:
    """JPEGImages/... and instances.json; returns the annotation file."""
    for video, frames in (("a", 3), ("b", 1)):
        (folder / "JPEGImages" / video).mkdir(parents=True)
        for frame in range(frames):
            Image.fromarray(image(video, frame)).save(folder / "JPEGImages" / video / f"{frame:05d}.png")
    path = folder / "instances.json"
    path.write_text(json.dumps(document() if content is None else content))
    return path
