"""The reading lists of CONTRIBUTING.md are true: each folder comes once, each file is called from above."""

from __future__ import annotations

import ast
import re
from itertools import groupby
from pathlib import Path

import pytest

from docs.pages import ROOT

SOURCE = ROOT / "src" / "ookd"
LISTS = dict(
    part.split("\n", 1)
    for part in (ROOT / "CONTRIBUTING.md").read_text().partition("## Reading the code")[2].split("\n### ")[1:]
)


def files_of(table: str) -> list[Path]:
    rows = re.findall(r"^\| (?:`(\w+)`)? ?\| (.+?) \|", table, re.M)
    return [Path(folder) / name for folder, names in rows for name in re.findall(r"`([\w/]+\.py)`", names)]


def modules_named_in(file: Path) -> set[str]:
    """Modules that a file imports or names in a string, also through the `__init__` of a package."""
    found = _named(SOURCE / file)
    for module in list(found):
        package = ROOT / "src" / module.replace(".", "/") / "__init__.py"
        if package.exists():
            found |= _named(package)
    return found


def _named(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value.partition(":")[0])
    return {name for name in found if name.startswith("ookd.")}


@pytest.mark.parametrize("title", LISTS)
def test_a_list_reads_from_top_to_bottom(title: str) -> None:
    files = files_of(LISTS[title])
    assert len(files) > 20
    assert [str(file) for file in files if not (SOURCE / file).is_file()] == []
    folders = [folder for folder, _ in groupby(file.parts[0] for file in files)]
    assert len(folders) == len(set(folders)), "a folder comes twice"
    known: set[str] = set()
    for place, file in enumerate(files):
        module = "ookd." + ".".join(file.with_suffix("").parts).removesuffix(".__init__")
        assert place == 0 or module in known, f"{file}: no file above it names it"
        known |= modules_named_in(file)
