"""Files that are no files, or too much of one."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from bounded import DEVICES, device
from ookd import limits, untrusted
from ookd.errors import UserError, printable


@pytest.mark.parametrize("kind", DEVICES)
def test_only_regular_files_are_read(kind: str, tmp_path: Path) -> None:
    path = device(tmp_path / "a.json", kind)
    began = time.monotonic()
    for read in (untrusted.read_bytes, untrusted.read_text, untrusted.read_json, untrusted.read_yaml):
        with pytest.raises(UserError, match="is a pipe or a device, not a regular file"):
            read(path)
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("none", "no such file"),
        (".", "is a folder"),
        ("n" * 256, "cannot be read: File name too long"),
        ("a\0b", "is not a file name"),
        ("a\ud800", "is not a file name"),
        ("loop", "cannot be read: Too many levels"),
    ],
)
def test_a_name_that_leads_nowhere(name: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UserError, match=says):
        untrusted.read_bytes(tmp_path / name)
    assert not untrusted.is_file(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{" * 100_000, "is not JSON|nested too deeply"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "is nested too deeply"),
        ('{"a": ' + "7" * 5000 + "}", "is not JSON: Exceeds the limit"),
        ("[]", "must be a JSON object"),
        ("", "is not JSON"),
    ],
)
def test_settings_that_are_no_json_object(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=says):
        untrusted.read_json(tmp_path / "a.json")


def test_a_limit_names_itself_and_can_be_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    with path.open("wb") as file:
        file.truncate(limits.SETTINGS.usual + 1)  # holds no block of the disk
    with pytest.raises(UserError, match=r"more than 67108864 bytes .* OOKD_MAX_SETTINGS"):
        untrusted.read_text(path)
    monkeypatch.setenv("OOKD_MAX_SETTINGS", "1e8")
    assert len(untrusted.read_text(path)) == limits.SETTINGS.usual + 1
    monkeypatch.setenv("OOKD_MAX_SETTINGS", "much")
    with pytest.raises(UserError, match="OOKD_MAX_SETTINGS=much: must be a number"):
        untrusted.read_text(path)


@pytest.mark.parametrize("text", ["²", "١٢", "-1", "1" * 5000, "", "1.0"])
def test_only_ascii_digits_are_a_number(text: str) -> None:
    assert untrusted.whole_number(text) is None
    assert untrusted.whole_number("120") == 120


def test_terminals_are_not_steered() -> None:
    assert printable("a\x1b[31m\ud800\r\n") == "a\\x1b[31m\\ud800\\r\n"
    long = printable(f"a.json: object {'9' * 10**7}: must be a name")
    assert len(long) < 2100
    assert long.startswith("a.json: object 99")
    assert long.endswith("99: must be a name")


def test_the_table_of_limits_is_true() -> None:
    page = (Path(__file__).parents[1] / "docs" / "untrusted-input.md").read_text()
    rows = re.findall(r"\| `(\w+)` \| (\d+) \| (.+) \|", page)
    known = [limit for limit in vars(limits).values() if isinstance(limit, limits.Limit)]
    assert rows == [(limit.variable, str(limit.usual), limit.what) for limit in known]
