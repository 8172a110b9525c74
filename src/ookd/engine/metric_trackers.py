"""Metric trackers: where metrics go besides `metrics.jsonl`, through Accelerate."""

from __future__ import annotations

from collections.abc import Sequence

from accelerate import Accelerator
from accelerate.tracking import get_available_trackers

from ookd.config import Recipe
from ookd.errors import UserError


def installed(wanted: Sequence[str]) -> list[str] | None:
    """The trackers, for Accelerate. It would silently leave out those that are not installed."""
    known = {str(tracker) for tracker in get_available_trackers()}
    if missing := [tracker for tracker in wanted if tracker not in known]:
        raise UserError(f"run.trackers: {', '.join(missing)} not installed; pip install {' '.join(missing)}")
    return list(wanted) or None


def start(accelerator: Accelerator, recipe: Recipe) -> None:
    """Start the trackers. Each may fail for its own reasons: no account, no server, no key."""
    try:
        accelerator.init_trackers(
            recipe.name, {"seed": recipe.run.seed, "lr": recipe.optim.lr, "steps": recipe.run.steps}
        )
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(f"run.trackers: {', '.join(recipe.run.trackers)} cannot start: {reason}") from error
