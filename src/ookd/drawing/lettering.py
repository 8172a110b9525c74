"""Names of any script, as far as this machine has a font for them; the rest is spelt so that it can be read.

Pillow's own font has hardly more than ASCII, and everything else comes out of it as one and the same box.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import ImageFont

BOX = "\uffff"  # is no character: what a font draws for it stands for everything that it lacks


@dataclass(frozen=True, slots=True)
class Lettering:
    """A font, Pillow's own where there is no path, and what of a text is to be drawn with it."""

    path: str | None = None

    def font(self, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        return ImageFont.load_default(size) if self.path is None else ImageFont.truetype(self.path, size)

    def spelt(self, text: str) -> str:
        """The text without its accents where the font lacks them, and else by code: `\\u4eba`."""
        lacking = self.lacking(frozenset(text))
        return "".join(self._plain(character) if character in lacking else character for character in text)

    def lacking(self, characters: frozenset[str]) -> frozenset[str]:
        """Which of the characters come out as a box."""
        return _lacking(self.path, characters)

    def _plain(self, character: str) -> str:
        parts = unicodedata.normalize("NFKD", character)
        base = "".join(part for part in parts if not unicodedata.combining(part))
        if base.isprintable() and not self.lacking(frozenset(base)):
            return base
        return ascii(character)[1:-1]


@cache
def lettering(characters: frozenset[str]) -> Lettering:
    """The font that has most of the characters, the first of several."""
    best, lacks = Lettering(), len(_lacking(None, characters))
    for path in _fonts() if lacks else ():
        try:
            lacking = len(_lacking(path, characters))
        except OSError:  # a kind of font that Pillow cannot read
            continue
        if lacking < lacks:
            best, lacks = Lettering(path), lacking
        if not lacks:
            break
    return best


def _fonts() -> Iterator[str]:
    """The font that comes with matplotlib, then those of the system, upright ones of normal weight first."""
    from matplotlib import get_data_path
    from matplotlib.font_manager import findSystemFonts

    yield str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
    styles = ("bold", "italic", "oblique", "light", "thin", "black", "mono", "condensed", "narrow", "serif")
    yield from sorted(
        findSystemFonts(), key=lambda path: (sum(style in Path(path).stem.lower() for style in styles), path)
    )


@cache
def _lacking(path: str | None, characters: frozenset[str]) -> frozenset[str]:
    font = Lettering(path).font(16)
    box = bytes(font.getmask(BOX))
    asked = (c for c in characters if not (c.isascii() and c.isprintable()))
    return frozenset(c for c in asked if not c.isprintable() or bytes(font.getmask(c)) == box)
