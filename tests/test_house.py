"""The package as a whole: quick to import, honest exit codes, nothing listed that is not there."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ookd
from ookd.cli import VERBS, main
from ookd.errors import UserError


def test_import_is_fast_and_needs_no_torch() -> None:
    code = (
        "import sys, time; t = time.process_time(); import ookd, ookd.cli, ookd.structures;"
        "print('torch' in sys.modules, time.process_time() - t)"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(3)
    ]
    assert all(loaded == "False" for loaded, _ in runs)
    assert min(float(seconds) for _, seconds in runs) < 0.3


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


def test_public_names_exist() -> None:
    for name in ookd.__all__:
        assert getattr(ookd, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = ookd.nonsense


def test_unknown_verb_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err


def test_user_error_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise UserError("clip.mp4: no such file")

    monkeypatch.setattr("ookd.cli.app", fail)
    assert main(["data"]) == 2
    assert capsys.readouterr().err == "error: clip.mp4: no such file\n"
