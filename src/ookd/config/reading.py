"""From YAML files and `--set` changes to a checked recipe, and back to annotated YAML."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from ookd import untrusted
from ookd.config.schema import Clips, CompositeData, FolderData, PairInClip, Pairs, Recipe, Strict, WorldData
from ookd.errors import UserError

# the types of entries that say their `kind`
_KINDS: dict[str, type[Strict]] = {
    "world": WorldData,
    "folder": FolderData,
    "composite": CompositeData,
    "pair": Pairs,
    "clip": Clips,
    "distill": PairInClip,
}


def bundled() -> dict[str, str]:
    """Names of the recipes that come with the package, and what they are for."""
    files = sorted((resources.files("ookd") / "recipes").iterdir(), key=lambda file: file.name)
    return {
        file.name.removesuffix(".yaml"): str(yaml.safe_load(file.read_text()).get("about", ""))
        for file in files
        if file.name.endswith(".yaml")
    }


def load(name: str, changes: Sequence[str] = ()) -> Recipe:
    """A bundled recipe by name, or a YAML file by path, with `a.b=c` changes applied."""
    tree = _read(name, ())
    for change in changes:
        _apply(tree, change)
    return parse(tree, name)


def parse(tree: dict[str, Any], where: str) -> Recipe:
    """A recipe from plain data. All problems are reported in one error."""
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise UserError(f"{where}: {'; '.join(map(_explain, error.errors()))}") from None


def describe(recipe: Recipe) -> str:
    """The whole recipe as YAML, with an explanation of every key."""
    lines: list[str] = []
    _describe(recipe, "", lines)
    return "\n".join(lines) + "\n"


def _read(name: str, seen: tuple[str, ...]) -> dict[str, Any]:
    if name in seen:
        raise UserError(f"recipe {name} is its own base: {' -> '.join((*seen, name))}")
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        text = untrusted.read_text(path)
    elif name in bundled():
        text = (resources.files("ookd") / "recipes" / f"{name}.yaml").read_text()
    else:
        near = difflib.get_close_matches(name, bundled(), 1, 0.3)
        hint = f"; did you mean {near[0]}?" if near else f"; choose from {', '.join(bundled())}"
        raise UserError(f"there is no recipe {name}{hint} (the name of a file must end in .yaml)")
    tree = untrusted.parse_yaml(text, f"recipe {name}")
    if not isinstance(tree, dict):
        raise UserError(f"recipe {name} must be a mapping of keys to values")
    base = tree.pop("base", None)
    if base is None:
        return tree
    if not isinstance(base, str):
        raise UserError(f"recipe {name}: base must be the name of a recipe, not {base!r}")
    if base.endswith((".yaml", ".yml")):
        base = str(path.parent / base)
    return _merged(_read(base, (*seen, name)), tree)


def _merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Mappings are merged, unless their `kind` differs. Everything else is replaced."""
    out = dict(base)
    for key, value in change.items():
        old = out.get(key)
        if (
            isinstance(old, dict)
            and isinstance(value, dict)
            and value.get("kind", old.get("kind")) == old.get("kind")
        ):
            value = _merged(old, value)
        out[key] = value
    return out


def _apply(tree: dict[str, Any], change: str) -> None:
    key, found, value = change.partition("=")
    if not found or not key:
        raise UserError(f"--set {change}: write it as key=value, such as optim.lr=5e-4")
    *parents, last = key.split(".")
    place: Any = tree
    for step, parent in enumerate(parents):
        place = (
            place[int(parent)]
            if isinstance(place, list) and _is_index(parent, place)
            else (place.setdefault(parent, {}) if isinstance(place, dict) else None)
        )
        if not isinstance(place, dict | list):
            raise UserError(f"--set {change}: {'.'.join(parents[: step + 1])} has no keys below it")
    parsed = untrusted.parse_yaml(value, f"--set {change}")
    if isinstance(place, list):
        if not _is_index(last, place):
            raise UserError(f"--set {change}: the list has entries 0 to {len(place) - 1}")
        place[int(last)] = parsed
    else:
        place[last] = parsed


def _is_index(text: str, entries: list[Any]) -> bool:
    number = untrusted.whole_number(text)
    return number is not None and number < len(entries)


def _explain(problem: Any) -> str:
    """One of pydantic's errors in a few words."""
    place, _ = _locate(problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = list(_locate(problem["loc"][:-1])[1].model_fields)
        near = difflib.get_close_matches(str(problem["loc"][-1]), known, 1, 0.3)
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(known)}"
        return f"unknown key {place}; {hint}"
    if problem["type"] == "missing":
        return f"{place} is missing"
    given = "" if isinstance(problem["input"], dict) else f", not {problem['input']!r}"
    return f"{place}: {problem['msg']}{given}"


def _locate(loc: Sequence[int | str]) -> tuple[str, Any]:
    """A place of the recipe as `--set` names it, and the type of what belongs there.

    `loc` is pydantic's: it has the `kind` of an entry as a step of its own.
    """
    names: list[str] = []
    found: Any = Recipe
    for step in loc:
        if isinstance(found, type) and issubclass(found, BaseModel):
            field = found.model_fields.get(str(step))
            found = None if field is None else _without_none(field.annotation)
        elif get_origin(found) in (list, dict):
            found = get_args(found)[-1]
        elif found is not None and step in _KINDS:
            found = _KINDS[str(step)]
            continue
        names.append(str(step))
    return ".".join(names), found


def _without_none(annotation: Any) -> Any:
    """X for `X | None`."""
    rest = [kind for kind in get_args(annotation) if kind is not type(None)]
    return rest[0] if len(rest) == 1 and len(get_args(annotation)) == 2 else annotation


def _describe(node: BaseModel, indent: str, lines: list[str]) -> None:
    for name, field in type(node).model_fields.items():
        value = getattr(node, name)
        note = f"  # {field.description}" if field.description else ""
        if isinstance(value, BaseModel):
            lines.append(f"{indent}{name}:{note}")
            _describe(value, indent + "  ", lines)
        elif isinstance(value, list) and value and isinstance(value[0], BaseModel):
            lines.append(f"{indent}{name}:{note}")
            for entry in value:
                start = len(lines)
                _describe(entry, indent + "    ", lines)
                lines[start] = f"{indent}  - {lines[start].lstrip()}"
        elif isinstance(value, dict) and any(isinstance(entry, BaseModel) for entry in value.values()):
            lines.append(f"{indent}{name}:{note}")
            for key, entry in value.items():
                lines.append(f"{indent}  {key}:")
                _describe(entry, indent + "    ", lines)
        else:
            text = yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("...\n").strip()
            lines.append(f"{indent}{name}: {text}{note}")
