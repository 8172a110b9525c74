"""From YAML files and `--set` changes to a checked recipe, and back to annotated YAML."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from ookd.config.schema import Clips, CompositeData, FolderData, Pairs, Recipe, Strict, Within, WorldData
from ookd.errors import UserError

# what the `kind` of an entry stands for
_KINDS: dict[str, type[Strict]] = {
    "world": WorldData,
    "folder": FolderData,
    "composite": CompositeData,
    "pair": Pairs,
    "clip": Clips,
    "distill": Within,
}


def bundled() -> dict[str, str]:
    """Names of the recipes that come with the package, and what they are for."""
    folder = resources.files("ookd") / "recipes"
    recipes = {}
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".yaml"):
            recipes[entry.name.removesuffix(".yaml")] = str(
                yaml.safe_load(entry.read_text()).get("about", "")
            )
    return recipes


def load(name: str, changes: Sequence[str] = ()) -> Recipe:
    """A bundled recipe by name, or a YAML file by path, with `a.b=c` changes applied."""
    tree = _read(name, ())
    for change in changes:
        _apply(tree, change)
    return parse(tree, name)


def parse(tree: dict[str, Any], where: str) -> Recipe:
    """A recipe from plain data; every problem in one error."""
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        lines = [_explain(problem) for problem in error.errors()]
        raise UserError(f"{where}: " + "; ".join(lines)) from None


def describe(recipe: Recipe) -> str:
    """The whole recipe as YAML, every field with a line of explanation."""
    lines: list[str] = []
    _describe(recipe, "", lines)
    return "\n".join(lines) + "\n"


def _read(name: str, seen: tuple[str, ...]) -> dict[str, Any]:
    if name in seen:
        raise UserError(f"recipe {name} is its own base: {' -> '.join((*seen, name))}")
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        try:
            text = path.read_text()
        except OSError as error:
            raise UserError(f"cannot read recipe {name}: {error.strerror}") from None
    elif name in bundled():
        text = (resources.files("ookd") / "recipes" / f"{name}.yaml").read_text()
    else:
        near = difflib.get_close_matches(name, bundled(), 1, 0.3)
        hint = f"; did you mean {near[0]}?" if near else f"; bundled are {', '.join(bundled())}"
        raise UserError(f"no recipe {name}{hint} (a file must end in .yaml)")
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"recipe {name} is not YAML: {' '.join(str(error).split())}") from None
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
    """Mappings are merged, except where the kind of a thing changes; everything else is replaced."""
    out = dict(base)
    for key, value in change.items():
        old = out.get(key)
        same_kind = (
            isinstance(old, dict)
            and isinstance(value, dict)
            and old.get("kind") == value.get("kind", old.get("kind"))
        )
        out[key] = _merged(old, value) if same_kind and isinstance(old, dict) else value
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
            if isinstance(place, list) and parent.isdigit() and int(parent) < len(place)
            else (place.setdefault(parent, {}) if isinstance(place, dict) else None)
        )
        if not isinstance(place, dict | list):
            raise UserError(f"--set {change}: {'.'.join(parents[: step + 1])} has no keys below it")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        raise UserError(f"--set {change}: {value} is not a YAML value") from None
    if isinstance(place, list):
        if not last.isdigit() or int(last) >= len(place):
            raise UserError(f"--set {change}: the list has entries 0 to {len(place) - 1}")
        place[int(last)] = parsed
    else:
        place[last] = parsed


def _explain(problem: Any) -> str:
    place = ".".join(
        str(part) for part in problem["loc"] if part not in ("world", "folder", "composite", "pair", "clip")
    )
    if problem["type"] == "extra_forbidden":
        known = _keys_at(problem["loc"][:-1])
        near = difflib.get_close_matches(str(problem["loc"][-1]), known, 1, 0.3)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
        return f"unknown key {place}; {hint}"
    if problem["type"] == "missing":
        return f"{place} is missing"
    given = problem["input"]
    return (
        f"{place}: {problem['msg']}, not {given!r}"
        if not isinstance(given, dict)
        else f"{place}: {problem['msg']}"
    )


def _keys_at(place: Sequence[Any]) -> list[str]:
    """Valid keys at a place of the recipe."""
    model: Any = Recipe
    for part in place:
        if part in _KINDS:
            model = _KINDS[part]
        elif isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields:
            model = model.model_fields[part].annotation
    if isinstance(model, type) and issubclass(model, BaseModel):
        return list(model.model_fields)
    return []


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
