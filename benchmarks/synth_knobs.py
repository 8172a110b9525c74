"""What the two knobs of a synthetic world do, measured on its ground truth; no model takes part.

python benchmarks/synth_knobs.py --videos 60
"""

from __future__ import annotations

import argparse

import cv2
import numpy as np
from numpy.typing import NDArray

from ookd.worlds import PRESETS, World

Mask = NDArray[np.bool_]


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
    """Identity switches of the plainest tracker on perfect masks: to the last mask it overlaps most."""
    count, last, number_of = 0, dict[int, Mask](), dict[int, int]()
    for visible in frames:
        for n in np.flatnonzero(visible.any((1, 2))).tolist():
            overlap = {k: (old & visible[n]).sum() / (old | visible[n]).sum() for k, old in last.items()}
            best = max(overlap, key=overlap.__getitem__, default=None)
            number = best if best is not None and overlap[best] > 0.1 else len(last)
            count += number_of.get(n, number) != number
            number_of[n], last[number] = number, visible[n]
    return count


def measure(world: World) -> list[str]:
    """One row: objects, width, contrast, told by colour, below half visible, returns, switches."""
    contrasts, colours, labels, videos = [], [], [], []
    widths, shares, returns, lost, seconds = [], [], 0, 0, 0.0
    for i, video in enumerate(world.dataset().videos):
        truth = [world.scene(i).truth(t).visible for t in range(world.frames)]
        lost += switches(truth)
        seconds += len(video.tracks) * world.frames / 10
        for track in video.tracks:
            widths += [box[2] for box in track.boxes_xywh if box]
            seen = np.flatnonzero([mask is not None for mask in track.segmentations])
            shares += [track.extra["visibility"][t] for t in seen]
            returns += int((np.diff(seen) > 3).sum())
        clip = world.clip(i, [world.frames // 2])
        contrasts += [contrast(clip.images[0], mask) for mask in clip.masks[0]]
        colours += [clip.images[0][mask].mean(0) for mask in clip.masks[0]]
        labels += clip.labels.tolist()
        videos += [i] * len(clip.labels)
    tracks = sum(len(world.labels(i)) for i in range(len(world)))
    return [
        f"{tracks / len(world):.1f}",
        f"{np.median(widths):.0f}",
        f"{np.mean(contrasts):.0f}",
        f"{100 * told_by_colour(colours, labels, videos):.0f} %",
        f"{100 * np.mean(np.array(shares) < 0.5):.0f} %",
        f"{returns / tracks:.2f}",
        f"{lost / seconds:.2f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=60, help="a world")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    columns = ["objects", "width", "contrast", "told by colour", "half hidden", "returns", "switches"]
    print(f"| world | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    knobs = [(a, 0.25) for a in (0.0, 0.5, 1.0)] + [(0.35, s) for s in (0.0, 0.5, 1.0)]
    worlds = {name: World(name, "val", options.seed, options.videos) for name in PRESETS}
    for look, identity in knobs:
        name = f"appearance {look}, association {identity}"
        changes = {"appearance": look, "association": identity, "frames": 24, "crowd": (2, 6)}
        worlds[name] = World("ytvis-like", "val", options.seed, options.videos, **changes)
    for name, world in worlds.items():
        print(f"| {name} | {' | '.join(measure(world))} |", flush=True)


if __name__ == "__main__":
    main()
