"""Folders appear whole, and nothing goes that was not asked to."""

from __future__ import annotations

from pathlib import Path

import pytest

from ookd.errors import UserError
from ookd.new_folder import new_folder

MARKS = ("mark.txt",)


def fill(out: Path, text: str, overwrite: bool = False) -> None:
    with new_folder(out, overwrite, MARKS) as folder:
        assert folder.parent == out.parent
        (folder / "mark.txt").write_text(text)


def fill_half(out: Path) -> None:
    with new_folder(out, True, MARKS) as folder:
        (folder / "half").write_text(str(1 / 0))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_appears_whole_with_its_parents(tmp_path: Path) -> None:
    fill(tmp_path / "deep/out", "one")
    assert (tmp_path / "deep/out/mark.txt").read_text() == "one"
    assert names(tmp_path / "deep") == ["out"]


def test_an_empty_folder_is_free(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    fill(tmp_path / "out", "one")
    assert names(tmp_path / "out") == ["mark.txt"]


def test_replaces_its_own_kind_if_asked(tmp_path: Path) -> None:
    fill(tmp_path / "out", "one")
    (tmp_path / "out/stale.png").write_text("")
    with pytest.raises(UserError, match="exists"):
        fill(tmp_path / "out", "two")
    assert (tmp_path / "out/mark.txt").read_text() == "one"
    fill(tmp_path / "out", "two", overwrite=True)
    assert (tmp_path / "out/mark.txt").read_text() == "two"
    assert names(tmp_path / "out") == ["mark.txt"]
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize(
    "make", [lambda path: path.write_text("x"), lambda path: (path / "thesis").mkdir(parents=True)]
)
def test_never_replaces_what_is_of_another_kind(make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    make(tmp_path / "out")
    with pytest.raises(UserError, match="not a folder that this command wrote"):
        fill(tmp_path / "out", "two", overwrite=True)
    assert names(tmp_path) == ["out"]
    assert not (tmp_path / "out/mark.txt").exists()


def test_a_failure_leaves_the_old_one(tmp_path: Path) -> None:
    fill(tmp_path / "out", "one")
    with pytest.raises(ZeroDivisionError):
        fill_half(tmp_path / "out")
    assert (tmp_path / "out/mark.txt").read_text() == "one"
    assert names(tmp_path) == ["out"]


def test_a_killed_run_is_swept_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part/half").write_text("")
    fill(tmp_path / "out", "one")
    assert "killed" in caplog.text
    assert names(tmp_path / "out") == ["mark.txt"]


def test_no_right_to_write_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="out"):
        fill(tmp_path / "file/out", "one")


@pytest.mark.parametrize("out", [".", "..", ""])
def test_the_current_folder_is_no_result(out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UserError, match="current folder"):
        fill(Path(out), "one", overwrite=True)
    assert names(tmp_path) == ["here"]
