"""Synthetic worlds: endless labelled video with two independent settings for its difficulty."""

from ookd.worlds.config import PRESETS, SPLITS, WorldConfig
from ookd.worlds.world import World
from ookd.worlds.write import write

__all__ = ["PRESETS", "SPLITS", "World", "WorldConfig", "write"]
