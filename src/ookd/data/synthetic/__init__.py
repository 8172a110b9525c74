"""Synthetic worlds: endless labelled video whose difficulty is set by two independent knobs."""

from ookd.data.synthetic.config import PRESETS, SPLITS, WorldConfig
from ookd.data.synthetic.world import World
from ookd.data.synthetic.write import write

__all__ = ["PRESETS", "SPLITS", "World", "WorldConfig", "write"]
