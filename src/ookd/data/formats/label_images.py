"""Masks as label images: one image per frame, one value per object. Shared by DAVIS and MOTS.

A label image gives each pixel to at most one object, so overlaps cannot be written; the smaller object wins.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ookd import limits, untrusted
from ookd.data import rle
from ookd.data.formats.problems import Problem, Report
from ookd.data.frames import IMAGE_SUFFIXES, frame_stems
from ookd.data.image_files import open_image
from ookd.errors import UserError
from ookd.structures import Rle, Track, Video

Labels = NDArray[np.uint16]  # [H, W], 0 is background
_MODES = ("P", "L", "1", "I", "I;16")
_LARGEST = 2**16 - 1


@dataclass(frozen=True, slots=True)
class Shape:
    """One object in one label image."""

    mask: Rle
    box: list[float]
    area: int


def read_label_image(path: Path, report: Report) -> Labels | None:
    try:
        content = untrusted.read_bytes(path)
        with open_image(io.BytesIO(content)) as image:
            labels = np.array(image)
            if image.mode not in _MODES:
                what = f"is a {image.mode} image; labels need a palette or one grey channel"
            elif labels.min() < 0 or labels.max() > _LARGEST:
                what = f"holds values from {labels.min()} to {labels.max()}; labels have 16 bits"
            elif fault := limits.LABELS.exceeded(len(np.unique(labels))):
                what = fault
            else:
                return labels.astype(np.uint16)
    except UserError as error:
        what = str(error).removeprefix(f"{path}: ")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        what = f"is not a readable image ({error})" if content else "is empty"
    report(Problem(path, "", what))
    return None


def shapes_of(labels: Labels) -> dict[int, Shape]:
    """The objects of a label image by value."""
    values = np.unique(labels)
    values = values[values > 0]
    masks = {int(value): rle.encode(labels == value) for value in values}  # one at a time: there may be many
    return {value: Shape(mask, rle.box_xywh(mask), rle.area(mask)) for value, mask in masks.items()}


def read_sequence(folder: Path, report: Report) -> tuple[tuple[int, int], list[dict[int, Shape]], list[Path]]:
    """((width, height), the objects of each label image, the files); (0, 0) if none can be read."""
    pictures = sorted(folder.glob("*.png"))
    if not pictures:
        report(Problem(folder, "", "holds no annotation images (.png)"))
    found: list[Problem] = []
    frames: list[dict[int, Shape]] = []
    size = (0, 0)
    with ThreadPoolExecutor() as pool:  # decoding is most of the work, and releases Python's lock
        images = pool.map(lambda file: read_label_image(file, found.append), pictures)
        for picture, labels in zip(pictures, images, strict=True):
            if labels is not None:
                height, width = labels.shape
                size = (width, height) if size == (0, 0) else size
                if (width, height) != size:
                    what = f"is {width} x {height}, but its video starts with {size[0]} x {size[1]}"
                    found.append(Problem(picture, "", what))
                    labels = None
            frames.append({} if labels is None else shapes_of(labels))
    for problem in sorted(found, key=lambda problem: problem.file):
        report(problem)
    return size, frames, pictures


def tracks_of(frames: Sequence[dict[int, Shape]], category_of: dict[int, int], first_id: int) -> list[Track]:
    """One track for each value that has a category; the value is kept, to write the same images again."""
    values = sorted({value for frame in frames for value in frame} & category_of.keys())
    return [
        Track(
            first_id + place,
            category_of[value],
            [frame[value].mask if value in frame else None for frame in frames],
            [frame[value].box if value in frame else None for frame in frames],
            [frame[value].area if value in frame else None for frame in frames],
            extra={"label_value": value},
        )
        for place, value in enumerate(values)
    ]


def frame_files(pictures: Sequence[Path], images: Path) -> list[str]:
    """The frame of each label image, with the same stem, relative to `images`; .jpg if it is missing."""
    folder = pictures[0].parent.name
    there = sorted((images / folder).iterdir()) if (images / folder).is_dir() else []
    names = {file.stem: file.name for file in there if file.suffix.lower() in IMAGE_SUFFIXES}
    return [f"{folder}/{names.get(picture.stem, f'{picture.stem}.jpg')}" for picture in pictures]


def paint_labels(
    video: Video, name: str, values: dict[int, int], lost: list[str]
) -> Iterator[tuple[str, Labels]]:
    """File stem and label image of each frame. `values`: track id -> value; `lost` gets what does not fit."""
    claimed = 0
    for frame, stem in enumerate(frame_stems(video)):
        labels = np.zeros((video.height, video.width), np.uint16)
        masks = [
            (track.id, rle.of_track(video, track, frame))
            for track in video.tracks
            if track.segmentations[frame] is not None
        ]
        for number, mask in sorted(masks, key=lambda item: -rle.area(item[1])):
            pixels = rle.decode(mask)
            claimed += int(np.count_nonzero(labels[pixels]))
            labels[pixels] = values[number]
        yield stem, labels
    if claimed:
        lost.append(f"video {name}: {claimed} pixels belong to two objects; the smaller one keeps them")
    if any(track.iscrowd for track in video.tracks):
        lost.append(f"video {name}: crowd regions are written as plain objects")


def values_for(tracks: Sequence[Track], allowed: range) -> dict[int, int]:
    """Track id -> value: the one it was read with if all are unique, else consecutive values."""
    kept = {track.id: track.extra.get("label_value") for track in tracks}
    values = [value for value in kept.values() if type(value) is int and value in allowed]
    if len(set(values)) == len(tracks):
        return dict(zip(kept, values, strict=True))
    return dict(zip(kept, allowed, strict=False))
