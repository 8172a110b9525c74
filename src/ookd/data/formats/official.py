"""The class lists of the benchmarks, in their order; their servers know classes only by number."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from ookd.structures import Category


@cache
def official_categories() -> dict[str, list[Category]]:
    """The class list of each benchmark: ytvis-2019, ytvis-2021, ytvis-2022, ovis, coco."""
    text = files("ookd.data.formats").joinpath("official_categories.json").read_text(encoding="utf-8")
    return {
        name: [Category(int(number), title) for number, title in numbers.items()]
        for name, numbers in json.loads(text).items()
    }


def renumbered(categories: Sequence[Category]) -> str | None:
    """The video benchmark that has the same classes under other numbers, if any."""
    for benchmark, official in official_categories().items():
        same_names = {category.name for category in categories} == {category.name for category in official}
        if benchmark != "coco" and same_names:
            return None if set(categories) == set(official) else benchmark
    return None
