"""`--data` and `--unlabelled`: a user's own videos in place of the recipe's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ookd import config
from ookd.errors import UserError


def load_recipe(
    name: str,
    changes: Sequence[str],
    data: Path | None = None,
    unlabelled: Path | None = None,
    hold_out: bool = False,
) -> config.Recipe:
    """The recipe with its videos replaced by those of `data`, and then with `changes`.

    With `hold_out` some videos of `data` are for validation, unless it has a split for that. Own videos have
    any size. If the recipe says at which size its model tracks, it trains at that size.
    """
    if data is None:
        if unlabelled is not None:
            raise UserError("--unlabelled adds to videos with labels: name these with --data")
        return config.load(name, changes)
    own = _sources(name, data, unlabelled, hold_out)
    recipe = config.load(name, [*own, *changes])
    side = recipe.tracker.get("short_side")
    if side is None or recipe.data.augment.sides:
        return recipe
    return config.load(name, [*own, f"data.augment.sides=[{side}]", *changes])


def _sources(name: str, data: Path, unlabelled: Path | None, hold_out: bool) -> list[str]:
    from ookd.data.formats import find

    found = find(data)
    if len(found) == 1:
        sources = {"train": _folder(data)}
    else:
        sources = {one.split: _folder(data, split=one.split) for one in found}
        if "train" not in sources:
            raise UserError(f"{data}: has no split 'train'; it has {', '.join(sources)}")
    if hold_out and "val" not in sources:
        whole = sources["train"]
        sources |= {"train": {**whole, "part": "train"}, "val": {**whole, "part": "held-out"}}
    train = [sources["train"]]
    if unlabelled is not None:
        train.append(_folder(unlabelled, unlabelled=True))
    return [
        f"about={json.dumps(f'The recipe {name} on the videos of {data}.')}",
        f"data.train={json.dumps(train)}",
        *(f"data.{split}={json.dumps(sources.get(split))}" for split in ("tune", "val")),
    ]


def _folder(path: Path, **more: Any) -> dict[str, Any]:
    return {"kind": "folder", "path": str(path), **more}
