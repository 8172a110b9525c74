"""What the two knobs of a synthetic world do, measured on its ground truth; no model takes part.

docs/synthetic.md explains the columns.
"""

from __future__ import annotations

import argparse

import cv2
import numpy as np
from numpy.typing import NDArray

from measuring import Table
from ookd.worlds import PRESETS, World

Mask = NDArray[np.bool_]


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--videos", type=int, default=60, help="of each world")
    parser.add_argument("--seed", type=int, default=0)


def run(given: argparse.Namespace) -> None:
    cv2.setNumThreads(1)
    knobs = [(a, 0.25) for a in (0.0, 0.5, 1.0)] + [(0.35, s) for s in (0.0, 0.5, 1.0)]
    worlds = {name: World(name, "val", given.seed, given.videos) for name in PRESETS}
    for appearance, association in knobs:
        changes = {"appearance": appearance, "association": association, "frames": 24, "crowd": (2, 6)}
        world = World("ytvis-like", "val", given.seed, given.videos, **changes)
        worlds[f"appearance {appearance}, association {association}"] = world
    columns = {
        "world": "",
        "objects": ".1f",
        **dict.fromkeys(["width", "contrast"], ".0f"),
        **dict.fromkeys(["told by colour", "half hidden"], ".0%"),
        **dict.fromkeys(["returns", "switches"], ".2f"),
    }
    with Table(given, columns) as table:
        for name, world in worlds.items():
            table.add(name, *measure(world))


def measure(world: World) -> list[float]:
    """The cells of a row."""
    contrasts, colours, labels, videos = [], [], [], []
    widths, shares, returns, lost, seconds = [], [], 0, 0, 0.0
    for i, video in enumerate(world.dataset().videos):
        truth = [world.scene(i).truth(t).visible for t in range(world.frames)]
        lost += switches(truth)
        seconds += len(video.tracks) * world.frames / 10
        for track in video.tracks:
            widths += [box[2] for box in track.boxes_xywh if box]
            shown = np.flatnonzero([mask is not None for mask in track.segmentations])
            shares += [track.extra["visibility"][t] for t in shown]
            returns += int((np.diff(shown) > 3).sum())
        clip = world.clip(i, [world.frames // 2])
        contrasts += [contrast(clip.images[0], mask) for mask in clip.masks[0]]
        colours += [clip.images[0][mask].mean(0) for mask in clip.masks[0]]
        labels += clip.labels.tolist()
        videos += [i] * len(clip.labels)
    tracks = sum(len(world.labels(i)) for i in range(len(world)))
    half_hidden = float(np.mean(np.array(shares) < 0.5))
    return [
        tracks / len(world),
        float(np.median(widths)),
        float(np.mean(contrasts)),
        told_by_colour(colours, labels, videos),
        half_hidden,
        returns / tracks,
        lost / seconds,
    ]


def contrast(image: NDArray[np.uint8], mask: Mask) -> float:
    """Distance of an object's mean colour from that of the ring around it, in grey levels."""
    ring = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool) & ~mask
    return float(np.linalg.norm(image[mask].mean(0) - image[ring].mean(0)))


def told_by_colour(colours: list[NDArray[np.float64]], labels: list[int], videos: list[int]) -> float:
    """How often the object of another video that is nearest in mean colour has the same class."""
    gaps = np.linalg.norm(np.array(colours)[:, None] - np.array(colours), axis=-1)
    gaps[np.equal.outer(videos, videos)] = np.inf
    return float(np.mean(np.array(labels)[gaps.argmin(1)] == labels))


def switches(frames: list[Mask]) -> int:
    """Identity switches of the simplest tracker on perfect masks: to the last mask it overlaps most."""
    count, last, number_of = 0, dict[int, Mask](), dict[int, int]()
    for visible in frames:
        for n in np.flatnonzero(visible.any((1, 2))).tolist():
            overlap = {k: (old & visible[n]).sum() / (old | visible[n]).sum() for k, old in last.items()}
            best = max(overlap, key=overlap.__getitem__, default=None)
            number = best if best is not None and overlap[best] > 0.1 else len(last)
            count += number_of.get(n, number) != number
            number_of[n], last[number] = number, visible[n]
    return count
