"""Online video instance segmentation, taught by offline models.

The public names are imported when first used, so that `import ookd` stays fast and free of torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "evaluate": "ookd.evaluation.run",
    "load": "ookd.api",
    "push_to_hub": "ookd.models.sharing",
    "track": "ookd.api",
    "UserError": "ookd.errors",
}

__all__ = ["UserError", "__version__", "evaluate", "load", "push_to_hub", "track"]

if TYPE_CHECKING:
    from ookd.api import load, track
    from ookd.errors import UserError
    from ookd.evaluation.run import evaluate
    from ookd.models.sharing import push_to_hub


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ookd' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
