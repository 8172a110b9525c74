"""The documentation as data: its pages, what is fenced in them, where they link to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.M | re.S)
_LINK = re.compile(r"\]\(<?([^)\s>]+)>?[^)]*\)")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block."""

    language: str
    title: str  # file that it shows; empty: none
    text: str


def blocks(page: Path) -> list[Block]:
    found = []
    for match in _FENCE.finditer(page.read_text()):
        language, _, rest = match["info"].partition(" ")
        title = re.search(r'title="([^"]+)"', rest)
        found.append(Block(language, title[1] if title else "", match["text"]))
    return found


def links(page: Path) -> list[str]:
    """Targets of all links and pictures, code left out."""
    prose = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", page.read_text()))
    return _LINK.findall(prose)


def anchors(page: Path) -> set[str]:
    """What headings can be linked to, as the pages' generator names them."""
    from markdown.extensions.toc import slugify

    text = _FENCE.sub("", page.read_text())
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {slugify(title.replace("`", ""), "-") for title in titles}
