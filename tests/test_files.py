"""Files and folders appear whole, and nothing goes that was not asked to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from ookd.errors import UserError
from ookd.files import checksum, fingerprint, new_file, new_folder, write_file

MARKS = ("mark.txt",)


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "deep/file.txt"
    write_file(path, "one é")
    assert path.read_bytes() == "one é".encode()
    assert not fails_to_write(path)
    assert path.read_text() == "one é"
    assert names(path.parent) == ["file.txt"]


def fails_to_write(path: Path) -> bool:
    with pytest.raises(ZeroDivisionError), new_file(path) as part:
        part.write_text(f"half {part.write_text('begun') / 0}")
    return part.exists()


def test_a_file_without_a_place_is_one_line(tmp_path: Path) -> None:
    write_file(tmp_path / "file", b"x")
    with pytest.raises(UserError, match=r"file/two: cannot be written: Not a directory$"):
        write_file(tmp_path / "file/two", b"x")


def test_a_part_of_a_killed_run_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file.part").write_text("half")
    write_file(tmp_path / "file", "whole")
    assert "file.part: left by a killed run; replaced" in caplog.text
    assert names(tmp_path) == ["file"]


def test_checksums_are_sha256(tmp_path: Path) -> None:
    write_file(tmp_path / "file", b"abc")
    assert checksum(tmp_path / "file").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_fingerprints_keep_the_values_that_saved_files_hold() -> None:
    model = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 1))
    model.add_module("a", nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parameter.copy_(torch.arange(parameter.numel()).reshape(parameter.shape) + i)
        model.a.weight.fill_(0.5)
    assert fingerprint(model) == "97d29554cbb52038"
    assert fingerprint(model, long=True).startswith("c99b0b5439655c409401f03932e39430")


def test_writing_files_needs_no_torch() -> None:
    code = "import sys, ookd.files; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


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
