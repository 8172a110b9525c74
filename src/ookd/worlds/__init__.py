"""Synthetic worlds: endless labelled video whose difficulty is set by two independent knobs."""

from ookd.worlds.config import PRESETS, SPLITS, WorldConfig
from ookd.worlds.world import World
from ookd.worlds.write import write

__all__ = ["PRESETS", "SPLITS", "World", "WorldConfig", "write"]
