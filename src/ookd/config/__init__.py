"""Recipes: YAML files that fully determine a training run, checked before anything starts.

A recipe may name a `base` recipe and change some of its keys; `--set a.b=c` changes more. An unknown key or
an invalid value is reported in one line: the place, the nearest valid key, and what is allowed.
"""

from ookd.config.reading import bundled, describe, load, parse
from ookd.config.schema import (
    Augment,
    Clips,
    CompositeData,
    Data,
    DataSource,
    Distill,
    Filter,
    FolderData,
    Fraction,
    Loss,
    Model,
    Optim,
    PairInClip,
    Pairs,
    Recipe,
    Run,
    Signal,
    WorldData,
)

__all__ = [
    "Augment",
    "Clips",
    "CompositeData",
    "Data",
    "DataSource",
    "Distill",
    "Filter",
    "FolderData",
    "Fraction",
    "Loss",
    "Model",
    "Optim",
    "PairInClip",
    "Pairs",
    "Recipe",
    "Run",
    "Signal",
    "WorldData",
    "bundled",
    "describe",
    "load",
    "parse",
]
