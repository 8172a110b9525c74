"""How detections become identities. An associator is one class in its own file, listed here by name."""

from __future__ import annotations

import pkgutil
from typing import Any

from ookd.config.tracker import TrackerConfig
from ookd.errors import UserError
from ookd.tracking.associators.associator import Associator

# name -> where the class is; imported when first used
ASSOCIATORS = {
    "assignment": "ookd.tracking.associators.assignment:AssignmentAssociator",
    "memory": "ookd.tracking.associators.memory:MemoryAssociator",
    "consecutive": "ookd.tracking.associators.consecutive:ConsecutiveAssociator",
    "slot": "ookd.tracking.associators.slot:SlotAssociator",
}


def make_associator(config: TrackerConfig) -> Associator[Any]:
    """The associator that the configuration names."""
    if config.associator not in ASSOCIATORS:
        raise UserError(
            f"tracker constants: associator = {config.associator!r}: choose from {', '.join(ASSOCIATORS)}"
        )
    associator: Associator[Any] = pkgutil.resolve_name(ASSOCIATORS[config.associator])(config)
    return associator
