"""One program for all benchmarks. Each explains itself, and the pages name none that is not there."""

from __future__ import annotations

import re
import sys

import pytest

from docs.pages import ROOT

sys.path.append(str(ROOT / "benchmarks"))

from program import MODULES, main, parser_of

PAGES = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "src/ookd/bundled/nano/README.md"]
INLINE = re.compile(r"`python benchmarks ([^`]+)`")
FENCED = re.compile(r"^python benchmarks (.+(?:\n[ ]+.+)*)", re.M)  # with its indented lines


@pytest.mark.parametrize("name", MODULES)
def test_every_benchmark_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    assert f"python benchmarks {name}" in capsys.readouterr().out


def test_the_overview_names_all_and_a_wrong_name_gets_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    overview = capsys.readouterr().out
    assert all(f"  {name} " in overview for name in MODULES)
    assert main(["matchr"]) == 2
    assert "no benchmark matchr; did you mean matcher?" in capsys.readouterr().err


def test_the_pages_name_benchmarks_and_options_that_exist() -> None:
    texts = [page.read_text() for page in PAGES]
    commands = [command for text in texts for one in (INLINE, FENCED) for command in one.findall(text)]
    assert len(commands) > 20
    for command in commands:
        name = command.split()[0]
        assert name in MODULES, command
        known = {option for action in parser_of(name)._actions for option in action.option_strings}
        assert set(re.findall(r"(?<!\S)--[a-z-]+", command)) <= known, command
