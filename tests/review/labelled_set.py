"""A small labelled folder with sure, unsure and doubtful tracks."""

from __future__ import annotations

from pathlib import Path

from ookd.data.convert import convert
from ookd.data.formats import load
from ookd.worlds import World
from ookd.worlds.write import write


def labelled_set(folder: Path, height: int = 120, width: int = 200, frames: int = 12) -> Path:
    """Two videos; the confidence of a track falls with its number, and the last one of each is doubtful."""
    write(
        World("ytvis-like", videos=2, height=height, width=width, frames=frames, crowd=[4, 4]),
        folder / "world",
    )
    dataset = load(folder / "world")
    for video in dataset.videos:
        for n, track in enumerate(video.tracks):
            score = round(0.95 - 0.17 * n, 2)
            track.extra["score"] = score
            seen = enumerate(track.segmentations)
            track.extra["scores"] = [
                None if mask is None else round(score * (0.4 if 4 <= t < 7 else 1), 4) for t, mask in seen
            ]
        video.tracks[-1].iscrowd = True
    dataset.extra["info"] = {"teacher": {"id": "a/b"}}
    convert(dataset, folder / "labels", "ytvis", frames=False)
    return folder / "labels"
