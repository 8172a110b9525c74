"""Names of any script: a font that has them, or a spelling that can be read."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import matplotlib.font_manager
import numpy as np
import pytest

from drawing.test_overlay import scene
from ookd.drawing import fonts
from ookd.drawing.fonts import TextFont, font_for
from ookd.drawing.overlay import Overlay, contact_sheet

DEJAVU = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


@pytest.fixture(autouse=True)
def no_system_fonts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """But one that is none."""
    (tmp_path / "broken.ttf").write_text("no font")
    monkeypatch.setattr(matplotlib.font_manager, "findSystemFonts", lambda: [str(tmp_path / "broken.ttf")])
    font_for.cache_clear()


def test_plain_names_keep_the_usual_font() -> None:
    assert font_for(frozenset("person #7 92%")) == TextFont(None)


@pytest.mark.parametrize("name", ["žirafa", "собака", "γάτα", "قط"])
def test_a_font_that_has_the_name_is_found(name: str) -> None:
    found = font_for(frozenset(name))
    assert found.path == DEJAVU
    assert found.spell(name) == name


def test_what_no_font_has_is_spelt() -> None:
    found = font_for(frozenset("人 и café"))
    assert found.path == DEJAVU
    assert found.spell("人 и café") == r"\u4eba и café"
    assert TextFont().spell("人 и café\n") == r"\u4eba \u0438 cafe\n"
    assert TextFont().spell("Ǆ Å") == "DZ A"


def test_a_system_font_is_taken_where_it_has_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_fonts", lambda: iter(["a", "b", "c"]))
    lacks = {None: "人и", "a": "人", "b": "", "c": ""}
    monkeypatch.setattr(fonts, "_missing", lambda path, characters: frozenset(lacks[path]) & characters)
    assert font_for(frozenset("人и")).path == "b"
    assert font_for(frozenset("и")).path == "a"


def test_what_is_drawn_differs_from_name_to_name() -> None:
    """Boxes would not: the two names have the same number of letters."""
    one, other = (Overlay().draw(scene(240, 320, [1], names=names)) for names in (("кот",), ("пёс",)))
    assert not np.array_equal(one, other)
    for name in ("人狗", "\x00\ud800", "🦒"):
        assert Overlay().draw(scene(240, 320, [1], names=(name,))).shape == (240, 320, 3)
    image = np.zeros((20, 30, 3), np.uint8)
    assert not np.array_equal(contact_sheet([image], titles=["人"]), contact_sheet([image], titles=["狗"]))
