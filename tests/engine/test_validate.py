"""Validation: shares of several processes add up, and chance is given back."""

from __future__ import annotations

import random
from itertools import chain
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from engine.tiny import recipe
from ookd.engine.randomness import undisturbed
from ookd.engine.validate import Validation
from ookd.models import zoo
from ookd.structures import TrackResult

WORLD = "{kind: world, preset: ytvis-like, split: val, videos: 4, change: {frames: 4}}"


def test_shares_of_processes_add_up_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    given = recipe(f"data.val={WORLD}", "run.val_videos=3")
    assert given.data.val is not None
    saved = zoo.load("nano")
    validation = Validation(given, given.data.val, saved.names)
    alone = validation.measure(saved.model, 0, 1, {})
    assert alone is not None
    assert alone.report.videos == 3
    assert alone.report.ap > 0.2

    shares: list[list[TrackResult]] = []

    def gather(mine: list[TrackResult]) -> list[TrackResult]:
        shares.append(mine)
        return list(chain.from_iterable(shares))

    monkeypatch.setattr("ookd.engine.validate.gather_object", gather)
    assert validation.measure(saved.model, 1, 2, {}) is None
    together = validation.measure(saved.model, 0, 2, {})
    assert together is not None
    assert together.report.summary == alone.report.summary
    assert {result.video_id for result in shares[0]} == {2}


def test_frequency_is_that_of_training() -> None:
    given = recipe(f"data.val={WORLD}", "run.val_videos=1")
    assert given.data.val is not None
    saved = zoo.load("nano")
    validation = Validation(given, given.data.val, saved.names)
    counts = {name: 1 + place for place, name in enumerate(reversed(saved.names))}
    found = validation.measure(saved.model, 0, 1, counts)
    assert found is not None
    groups = [found.report.per_class[name].frequency for name in saved.names]
    assert groups == ["major"] * 4 + ["middle"] * 5 + ["minor"] * 5


def test_a_request_to_stop_ends_it_without_an_answer() -> None:
    given = recipe(f"data.val={WORLD}")
    assert given.data.val is not None
    saved = zoo.load("nano")
    assert Validation(given, given.data.val, saved.names).measure(saved.model, 0, 1, {}, lambda: True) is None


def test_processes_are_asked_to_stop_equally_often_whatever_their_shares() -> None:
    """Else one would wait for the other's answer for ever: of one video the second process has none."""
    given = recipe(f"data.val={WORLD}", "run.val_videos=1")
    assert given.data.val is not None
    saved = zoo.load("nano")
    validation = Validation(given, given.data.val, saved.names)
    asked = {rank: Mock(return_value=True) for rank in (0, 1)}
    for rank, stop in asked.items():
        assert validation.measure(saved.model, rank, 2, {}, stop) is None
    assert [stop.call_count for stop in asked.values()] == [1, 1]


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002


def test_chance_is_as_it_was() -> None:
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)
    expected = draws()
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)
    with undisturbed():
        draws()
    assert draws() == expected
