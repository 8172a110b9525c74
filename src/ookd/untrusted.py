"""Untrusted files: only regular files are opened, and their size is limited."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import yaml

from ookd import limits
from ookd.errors import UserError
from ookd.limits import Limit

MISSING, FOLDER = "no such file", "is a folder, not a file"
DEVICE = "is a pipe or a device, not a regular file"


def fault_of(path: Path) -> str | None:
    """Why a path cannot be read as a file; None if it can. A pipe or a device might never end."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return MISSING
    except ValueError:  # a NUL in the name
        return "is not a file name"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    if stat.S_ISDIR(mode):
        return FOLDER
    return None if stat.S_ISREG(mode) else DEVICE


def is_file(path: Path) -> bool:
    """Whether a path can be read as a file."""
    return fault_of(path) is None


def check_file(path: Path, limit: Limit = limits.FILE) -> None:
    """Raise unless the path is a regular file of acceptable size."""
    if (fault := fault_of(path)) is not None:
        raise UserError(f"{path}: {fault}")
    limit.check(path.stat().st_size, path)


def read_bytes(path: Path, limit: Limit = limits.FILE) -> bytes:
    check_file(path, limit)
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None


def read_text(path: Path, limit: Limit = limits.SETTINGS) -> str:
    try:
        return read_bytes(path, limit).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text (byte {error.start})") from None


def read_lines(path: Path) -> list[str]:
    """The lines of a file of annotations; what is not UTF-8 is replaced."""
    return read_bytes(path, limits.SETTINGS).decode("utf-8", "replace").split("\n")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of settings."""
    try:
        found = json.loads(read_text(path))
    except RecursionError:
        raise UserError(f"{path}: is nested too deeply") from None
    except ValueError as error:
        raise UserError(f"{path}: is not JSON: {_brief(error)}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: must be a JSON object")
    return found


def read_yaml(path: Path) -> Any:
    """The content of a YAML file."""
    return parse_yaml(read_text(path), path)


def parse_yaml(text: str, where: object) -> Any:
    """The value of a YAML text; messages begin with `where`."""
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        limits.YAML_VALUES.check(_values(node, {}), where)
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}: " if mark else ""
        raise UserError(
            f"{where}: {place}is not valid YAML: {_brief(getattr(error, 'problem', None) or error)}"
        ) from None
    except RecursionError:
        raise UserError(f"{where}: is nested too deeply") from None
    except (ValueError, OverflowError) as error:
        raise UserError(f"{where}: is not valid YAML: {_brief(error)}") from None
    except (TypeError, LookupError, AttributeError):  # dates, numbers and truths that do not exist
        raise UserError(f"{where}: is not valid YAML: a value does not fit its tag") from None


def whole_number(text: str) -> int | None:
    """The number that ASCII digits say, up to nine of them; else None."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def _values(node: yaml.Node, known: dict[int, int | None]) -> int:
    """How many values a node becomes when every alias is followed."""
    if id(node) in known:
        found = known[id(node)]
        if found is None:
            raise ValueError("a value contains itself")
        return found
    known[id(node)] = None
    total = 1
    if isinstance(node, yaml.SequenceNode):
        total += sum(_values(item, known) for item in node.value)
    elif isinstance(node, yaml.MappingNode):
        total += sum(_values(key, known) + _values(value, known) for key, value in node.value)
    known[id(node)] = total
    return total


def _brief(error: object) -> str:
    return " ".join(str(error).split())[:200]
