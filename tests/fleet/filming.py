"""Short videos of drawn scenes, and what the bundled model finds in them."""

from __future__ import annotations

from pathlib import Path

from ookd.data.video import VideoWriter
from ookd.fleet.process import FleetSettings
from ookd.worlds import World

SIZE = {"height": 64, "width": 96}
SETTINGS = FleetSettings("nano", "the bundled one")


def film(folder: Path, videos: int, frames: int = 4, seed: int = 3) -> list[Path]:
    """Videos of different scenes."""
    world = World("ytvis-like", split="test", seed=seed, videos=videos, frames=frames, **SIZE)
    paths = [folder / f"{number:02d}.mp4" for number in range(videos)]
    for number, path in enumerate(paths):
        with VideoWriter(path, 12) as video:
            for frame in range(frames):
                video.write(world.clip(number, [frame]).images[0])
    return paths
