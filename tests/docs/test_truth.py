"""What the pages name is there: Python names of the reference, verbs and options of every command."""

from __future__ import annotations

import inspect
import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer.main

from docs.pages import PAGES, ROOT, blocks
from ookd.cli import COMMANDS

REFERENCE = sorted(
    {name for page in PAGES for name in re.findall(r"^::: (\S+)$", page.read_text(), re.M)}
    | set(re.findall(r"\]\[(ookd[\w.]+)\]", "".join(page.read_text() for page in PAGES)))
)


def found(name: str) -> Any:
    """The object of a dotted name."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            thing: Any = import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            thing = getattr(thing, part)
        return thing
    raise AssertionError(f"no module {parts[0]}")


@pytest.mark.parametrize("name", REFERENCE)
def test_reference_names_exist_and_explain_themselves(name: str) -> None:
    assert inspect.getdoc(found(name))


def test_reference_holds_everything_that_is_public() -> None:
    import ookd

    page = (ROOT / "docs" / "api.md").read_text()
    assert all(f"::: ookd.{name}\n" in page for name in ookd.__all__ if not name.startswith("_"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_have_the_verbs_and_options_that_are_shown(page: Path) -> None:
    for line in commands(page):
        given = shlex.split(line, comments=True)[1:]
        if given[0].startswith("-"):
            continue
        assert given[0] in COMMANDS, line
        command: Any = typer.main.get_command(import_module(f"ookd.cli.{given[0]}").app)
        if hasattr(command, "commands"):
            assert given[1] in command.commands, line
            command = command.commands[given[1]]
        known = {name for one in command.params for name in one.opts + one.secondary_opts} | {"--help"}
        shown = {word.partition("=")[0] for word in given if word.startswith("--")}
        assert shown <= known, line


def commands(page: Path) -> list[str]:
    """Whole command lines of `ookd` in fenced and in indented code."""
    indented = re.findall(r"^    (ookd .+)$", page.read_text(), re.M)
    fenced = [
        line
        for block in blocks(page)
        if block.language in ("", "sh", "console")
        for line in block.text.replace("\\\n", " ").splitlines()
    ]
    return [
        line.strip()
        for line in (*fenced, *indented)
        if re.match(r"ookd [a-z]", line.strip()) and "..." not in line
    ]
