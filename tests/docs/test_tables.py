"""Every table has a header, a rule below it, and rows of as many cells: else it is shown as plain text."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path

import pytest

from docs.pages import PAGES

RULE = re.compile(r"\|( *:?-+:? *\|)+")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_are_whole(page: Path) -> None:
    lines = page.read_text().splitlines()
    for is_table, block in groupby(lines, lambda line: line.lstrip().startswith("|")):
        if not is_table:
            continue
        rows = [line.strip() for line in block]
        assert len(rows) > 2, rows
        assert RULE.fullmatch(rows[1]), f"no rule below the header {rows[0]}"
        assert {len(cells(row)) for row in rows} == {len(cells(rows[0]))}, rows[0]


def cells(row: str) -> list[str]:
    """Those between bars that stand neither in code nor behind a backslash."""
    plain = re.sub(r"`[^`]*`", "", row).replace(r"\|", "")
    return plain.split("|")
