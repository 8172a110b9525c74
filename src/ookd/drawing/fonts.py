"""Fonts for names in any script. Characters that no font on this machine has are spelt in ASCII.

Pillow's own font has little more than ASCII, and shows every other character as the same box.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import ImageFont

NO_CHARACTER = "\uffff"  # a font draws this as it draws every character that it lacks


@dataclass(frozen=True, slots=True)
class TextFont:
    """A font (without a path, Pillow's own), and texts as it can draw them."""

    path: str | None = None

    def font(self, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        return ImageFont.load_default(size) if self.path is None else ImageFont.truetype(self.path, size)

    def spell(self, text: str) -> str:
        """The text with missing characters replaced: accents dropped, or else a code like `\\u4eba`."""
        missing = self.missing(frozenset(text))
        return "".join(self._plain(character) if character in missing else character for character in text)

    def missing(self, characters: frozenset[str]) -> frozenset[str]:
        """The characters that the font lacks."""
        return _missing(self.path, characters)

    def _plain(self, character: str) -> str:
        parts = unicodedata.normalize("NFKD", character)
        base = "".join(part for part in parts if not unicodedata.combining(part))
        if base.isprintable() and not self.missing(frozenset(base)):
            return base
        return ascii(character)[1:-1]


@cache
def font_for(characters: frozenset[str]) -> TextFont:
    """The first font that has most of the characters."""
    best, fewest = TextFont(), len(_missing(None, characters))
    for path in _fonts() if fewest else ():
        try:
            missing = len(_missing(path, characters))
        except OSError:  # a font format that Pillow cannot read
            continue
        if missing < fewest:
            best, fewest = TextFont(path), missing
        if not fewest:
            break
    return best


def _fonts() -> Iterator[str]:
    """The font of matplotlib, then those of the system, upright fonts of normal weight first."""
    from matplotlib import get_data_path
    from matplotlib.font_manager import findSystemFonts

    yield str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
    styles = ("bold", "italic", "oblique", "light", "thin", "black", "mono", "condensed", "narrow", "serif")
    yield from sorted(
        findSystemFonts(), key=lambda path: (sum(style in Path(path).stem.lower() for style in styles), path)
    )


@cache
def _missing(path: str | None, characters: frozenset[str]) -> frozenset[str]:
    font = TextFont(path).font(16)
    box = bytes(font.getmask(NO_CHARACTER))
    asked = (c for c in characters if not (c.isascii() and c.isprintable()))
    return frozenset(c for c in asked if not c.isprintable() or bytes(font.getmask(c)) == box)
