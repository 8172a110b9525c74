"""Endless labelled video, drawn on demand: any frame of any video, always with the same bits."""

from __future__ import annotations

from typing import Any

from ookd.errors import UserError
from ookd.worlds.config import SPLITS, WorldConfig, preset
from ookd.worlds.drawn import DrawnVideos
from ookd.worlds.scene import Scene
from ookd.worlds.species import NAMES


class World(DrawnVideos[Scene]):
    """A split of a synthetic world. Different splits and seeds draw from independent random streams.

    >>> world = World("identity", split="val", videos=100)
    >>> clip = world.clip(0, [3, 4, 9])
    """

    def __init__(
        self,
        config: str | WorldConfig = "ytvis-like",
        split: str = "train",
        seed: int = 0,
        videos: int = 100,
        **changes: Any,
    ) -> None:
        if split not in SPLITS:
            raise UserError(f"unknown split '{split}'; choose from {', '.join(SPLITS)}")
        if seed < 0 or videos < 1:
            raise UserError(f"a world needs seed >= 0 and videos >= 1, not seed {seed} and {videos} videos")
        kind = config if isinstance(config, str) else "world"
        self.config = (preset(config) if isinstance(config, str) else config).changed(changes)
        self.split, self.seed = split, seed
        size = (self.config.height, self.config.width)
        super().__init__(f"{kind}-{split}-{seed}", NAMES, videos, self.config.frames, size)

    @property
    def recipe(self) -> dict[str, Any]:
        return {"name": self.name, "split": self.split, "seed": self.seed, "world": self.config.model_dump()}

    def make_scene(self, index: int) -> Scene:
        return Scene(self.config, (self.seed, SPLITS.index(self.split), index))
