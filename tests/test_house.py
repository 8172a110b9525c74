"""The package as a whole: quick to import, honest exit codes, nothing listed that is not there."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

import ookd
from ookd.cli import COMMANDS, main
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


@pytest.mark.parametrize("verb", COMMANDS)
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


@pytest.mark.parametrize(
    ("given", "meant"), [(["trak"], "track"), (["distil"], "distill"), (["data", "chek"], "check")]
)
def test_a_mistyped_verb_gets_a_suggestion(
    given: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(given) == 2
    assert f"Did you mean '{meant}'" in capsys.readouterr().err


def test_a_mistyped_option_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["track", "--modle", "nano"]) == 2
    assert "--model" in capsys.readouterr().err


def test_user_error_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise UserError("clip.mp4: no such file")

    monkeypatch.setattr("ookd.cli.app", fail)
    assert main(["data"]) == 2
    assert capsys.readouterr().err == "error: clip.mp4: no such file\n"


def test_no_files_import_each_other_in_a_circle() -> None:
    """Not even through others, or inside a function. The order of the rooms is checked by import-linter."""
    grimp = pytest.importorskip("grimp", reason="import-linter brings it")
    graph = grimp.build_graph("ookd", exclude_type_checking_imports=True, cache_dir=None)
    modules = sorted(graph.modules)
    pairs = [(m, n) for m in modules for n in graph.find_modules_directly_imported_by(m)]
    rows, columns = ([modules.index(pair[side]) for pair in pairs] for side in (0, 1))
    matrix = coo_array((np.ones(len(pairs)), (rows, columns)), shape=(len(modules), len(modules)))
    _, circle = connected_components(matrix, connection="strong")
    sizes = np.bincount(circle)
    circles = [[m for m, c in zip(modules, circle, strict=True) if c == n] for n in np.flatnonzero(sizes > 1)]
    assert not circles


def test_no_two_classes_share_a_name() -> None:
    """Recipes alone may name their sections as the package names what it makes of them."""
    source = Path(ookd.__file__).parent
    found: dict[str, list[str]] = {}
    for file in sorted(source.rglob("*.py")):
        if file != source / "config" / "schema.py":
            for node in ast.parse(file.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef):
                    found.setdefault(node.name, []).append(str(file.relative_to(source)))
    assert not {name: files for name, files in found.items() if len(files) > 1}
