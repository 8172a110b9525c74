"""A run that is in the folder already: left alone, gone on with as it was, or removed."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ookd import config
from ookd.config import Recipe
from ookd.engine.page import PAGE, VALIDATION
from ookd.engine.run import AGREEMENT, BEST, EXPORTED, MODEL
from ookd.engine.run_log import ENVIRONMENT, METRICS, RECIPE
from ookd.errors import UserError
from ookd.files import check_not_home
from ookd.models.licence import CARD
from ookd.models.zoo import CONFIG, WEIGHTS

# all that a run writes; its trackers write into a folder of the recipe's name
WHOLE = (
    *(RECIPE, ENVIRONMENT, METRICS, VALIDATION, PAGE, "not-finite/step-*.safetensors"),
    *(f"{kind}/{name}" for kind in (MODEL, BEST) for name in (CONFIG, WEIGHTS, CARD)),
)
FILES = (
    *(f"{name}{part}" for name in WHOLE for part in ("", ".part")),
    *("checkpoints/step-*/*", "checkpoints/.step-*/*"),
    *(f"{EXPORTED}/*", f"{AGREEMENT}.html", f"{AGREEMENT}.json"),
)
TRACKED = ("events.out.tfevents.*", "*/events.out.tfevents.*", "*/hparams.yml")
NAMED = 3  # differences that a message lists


def check(
    recipe: Recipe, folder: Path, resume: bool = False, changed: bool = False, overwrite: bool = False
) -> None:
    """Raise if there is a run that `recipe` neither continues nor may replace. Nothing is written.

    With `changed` it may go on with another recipe.
    """
    saved = folder / RECIPE
    if not saved.exists():
        return
    if overwrite:
        check_not_home(folder)
        if not (folder / ENVIRONMENT).exists():
            raise UserError(f"{folder} holds a {RECIPE}, but no run; name another folder")
    elif not resume and not changed:
        raise UserError(f"{folder} holds a run; continue it with --resume, or replace it with --overwrite")
    elif not changed:
        _check_same(config.load(str(saved)), recipe, folder)


def _check_same(before: Recipe, now: Recipe, folder: Path) -> None:
    found = differences(before.model_dump(), now.model_dump())
    keys = [key for key in found if not key.startswith("about")]  # which changes nothing
    if keys:
        more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
        raise UserError(
            f"{folder} was started with another recipe: {', '.join(keys[:NAMED])}{more}; "
            "use the same settings, or continue with the new recipe with --resume-changed"
        )


def data_of_run(model: Path) -> str | None:
    """The videos with which a run validated, or else trained, by the path of the run or of a model in it."""
    places = [model] if (model / RECIPE).is_file() else [model.parent] if model.name in (MODEL, BEST) else []
    for place in places:
        if (place / RECIPE).is_file():
            data = config.load(str(place / RECIPE)).data
            source = data.val or data.train[0]
            return source.preset if source.kind == "world" else source.path
    return None


def differences(before: Any, now: Any, place: str = "") -> Iterator[str]:
    """Keys whose values differ, as in `run.steps (3200, now 500)`."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys((*before, *now)):
            yield from differences(before.get(key), now.get(key), f"{place}.{key}".lstrip("."))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for i, (one, other) in enumerate(zip(before, now, strict=True)):
            yield from differences(one, other, f"{place}.{i}")
    elif before != now:
        brief = all(isinstance(value, str | int | float | None) for value in (before, now))
        yield f"{place} ({before}, now {now})" if brief else place


def remove(folder: Path) -> None:
    """Delete what a run wrote, and its folders that are empty then; what else lies there stays."""
    if not (folder / RECIPE).exists():
        return
    try:
        name = Path(config.load(str(folder / RECIPE)).name).name
    except UserError:  # of another version, or cut off
        name = ""
    patterns = [*FILES, *(f"{glob.escape(name)}/{file}" for file in TRACKED if name)]
    files = [path for pattern in patterns for path in folder.glob(pattern) if not path.is_dir()]
    for path in files:
        path.unlink()
    parents = {parent for path in files for parent in path.relative_to(folder).parents} - {Path()}
    for parent in sorted(parents, key=lambda path: -len(path.parts)):
        if not any((folder / parent).iterdir()):
            (folder / parent).rmdir()
