"""The ranges in which the search for tracker constants looks."""

from __future__ import annotations

from dataclasses import dataclass


class Choice:
    """One of some values."""

    def __init__(self, *values: bool | str) -> None:
        self.values = values


@dataclass(frozen=True)
class Steps:
    """A whole number, small ones as likely as large ones."""

    low: int
    high: int


@dataclass(frozen=True)
class Between:
    """A number; `log`: small ones are as likely as large ones."""

    low: float
    high: float
    log: bool = False


Range = Choice | Steps | Between
