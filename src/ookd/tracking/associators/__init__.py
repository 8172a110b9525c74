"""How detections become identities. An associator is one class in a file of its own, listed here by name."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ookd.config.tracker import TrackerConfig
from ookd.errors import UserError
from ookd.tracking.associators.associator import Associator

# name -> the module whose `ASSOCIATOR` is the class; imported when first used
ASSOCIATORS = {
    "memory": "ookd.tracking.associators.memory",
    "consecutive": "ookd.tracking.associators.consecutive",
    "slot": "ookd.tracking.associators.slot",
}


def make_associator(config: TrackerConfig) -> Associator[Any]:
    """The associator that the configuration names."""
    if config.associator not in ASSOCIATORS:
        raise UserError(
            f"tracker constants: associator = {config.associator!r}: choose from {', '.join(ASSOCIATORS)}"
        )
    associator: Associator[Any] = import_module(ASSOCIATORS[config.associator]).ASSOCIATOR(config)
    return associator
