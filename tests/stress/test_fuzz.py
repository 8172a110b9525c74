"""A few cases of the fuzzer; `python tests/stress fuzz` runs as many as one has time for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stress.fuzz import round_of, workplace
from stress.targets import TARGETS


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with workplace() as folder:
        yield folder


LONG = ("exported", "runs", "recipes")  # to prepare


@pytest.mark.parametrize("target", [target for target in TARGETS if target not in LONG])
def test_odd_input_is_one_line(target: str, place: Path) -> None:
    assert [str(found) for found in round_of(target, 1, 4, place, None)] == []
