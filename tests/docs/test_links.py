"""Every link between the pages, and from them to files of the repository, leads somewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from docs.pages import PAGES, ROOT, anchors, links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_and_anchors_resolve(page: Path) -> None:
    pytest.importorskip("markdown", reason="anchors are named by markdown, which mkdocs brings")
    broken = []
    for link in links(page):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def test_every_page_is_in_the_menu_once() -> None:
    listed = _pages((yaml.safe_load((ROOT / "mkdocs.yml").read_text()))["nav"])
    assert sorted(listed) == sorted(
        page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")
    )


def _pages(entry: object) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    inner = entry.values() if isinstance(entry, dict) else entry
    assert not isinstance(inner, str)
    return [page for one in inner for page in _pages(one)]  # type: ignore[union-attr]
