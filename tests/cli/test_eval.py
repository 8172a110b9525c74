"""`ookd eval` as a user calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.scenes import as_json, random_world, results_json, truth, tube
from ookd.cli import main
from ookd.structures import TrackResult


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    dataset, results = random_world(21, videos=6)
    _, others = random_world(22, videos=6)
    written = {
        "gt": as_json(dataset),
        "a": results_json(results),
        "b": results_json(others),
        "bad": [{"x": 1}],
    }
    for name, document in written.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    return {name: str(tmp_path / f"{name}.json") for name in written}


def test_table_names_the_measures(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--gt", files["gt"], "--pred", files["a"]]) == 0
    out = capsys.readouterr().out
    for word in (
        "AP50",
        "AR100",
        "AP_large",
        "HOTA",
        "MOTA",
        "no returns",
        "identity switch",
        "background",
        "class3",
    ):
        assert word in out


def test_json_is_all_there_is_on_standard_output(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    import ookd

    assert main(["eval", "--gt", files["gt"], "--pred", files["a"], "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    report = ookd.evaluate(files["gt"], files["a"])
    assert document == json.loads(json.dumps(report.as_dict()))


def test_bad_entries_end_in_lines_or_are_counted(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", "--gt", files["gt"], "--pred", files["bad"]]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "entry 0: has no video_id" in captured.err
    assert "Traceback" not in captured.err
    arguments = [
        "eval",
        "--gt",
        files["gt"],
        "--pred",
        files["a"],
        "--pred",
        files["bad"],
        "--lenient",
        "--json",
    ]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["dropped"] == 1
    assert "entry 0" in captured.err


def test_comparison(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["eval", "--gt", files["gt"], "--compare", files["a"], files["b"]]
    assert main([*arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ap"]["low"] <= document["ap"]["difference"] <= document["ap"]["high"]
    assert main(arguments) == 0
    assert "95 % interval" in capsys.readouterr().out


@pytest.fixture
def returning(tmp_path: Path) -> dict[str, str]:
    """In three videos an object is missed for four frames. A knows it again, B takes it for a new one."""
    box = (3, 3, 23, 23)
    dataset = truth([(v, 1, tube(*[box] * 8)) for v in (1, 2, 3)], frames=8, videos=3)
    kept, *new = (
        tube(*[box if sign == "#" else None for sign in line])
        for line in ("##....##", "##......", "......##")
    )
    answers = {
        "a": [TrackResult(v, 1, 0.9, kept) for v in (1, 2, 3)],
        "b": [TrackResult(v, 1, 0.9, half) for v in (1, 2, 3) for half in new],
    }
    documents = {"gt": as_json(dataset), **{name: results_json(answer) for name, answer in answers.items()}}
    for name, document in documents.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    return {name: str(tmp_path / f"{name}.json") for name in documents}


def test_returns_are_in_table_page_and_json(
    returning: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "report.html"
    assert main(["eval", "--gt", returning["gt"], "--pred", returning["a"]]) == 0
    out = capsys.readouterr().out
    for words in ("returns kept", "100.0 % (3 of 3)", "switches at returns", "time to recover", "no id lost"):
        assert words in out
    assert main(["eval", "--gt", returning["gt"], "--pred", returning["b"], "--report", str(page)]) == 0
    for words in ("0.0 % (0 of 3)", "3 of 3", "no id recovered", "100.0 % (3 of 3)"):
        assert words in page.read_text()
    capsys.readouterr()
    assert main(["eval", "--gt", returning["gt"], "--pred", returning["b"], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["returns"] == {
        "returns": 3,
        "kept": 0,
        "share_kept": 0.0,
        "switches_at_returns": 3,
        "lost": 3,
        "recovered": 0,
        "share_never_recovered": 1.0,
        "frames_to_recover": None,
    }


def test_a_comparison_shows_the_interval_of_returns(
    returning: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["eval", "--gt", returning["gt"], "--compare", returning["a"], returning["b"]]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["returns"]
    assert found["share_kept"] == {"a": 1.0, "b": 0.0, "difference": 1.0, "low": 1.0, "high": 1.0}
    assert found["switches_at_returns"]["difference"] == -3
    assert found["frames_to_recover"] is None  # nothing was recovered
    assert main(arguments) == 0
    (line,) = [line.split() for line in capsys.readouterr().out.splitlines() if "returns kept" in line]
    assert line[2:] == ["100.0", "0.0", "+100.0", "+100.0", "..", "+100.0", "*"]


def test_report_is_written_and_kept(files: dict[str, str], tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    arguments = ["eval", "--gt", files["gt"], "--pred", files["a"], "--report", str(page)]
    assert main(arguments) == 0
    first = page.read_text()
    assert main(arguments) == 2
    assert page.read_text() == first
    assert main([*arguments, "--overwrite"]) == 0


@pytest.mark.parametrize(
    "wrong",
    [[], ["--pred", "a", "--compare", "a", "b"], ["--compare", "a", "b", "--report", "x.html"]],
)
def test_options_that_do_not_go_together(wrong: list[str], files: dict[str, str]) -> None:
    assert main(["eval", "--gt", files["gt"], *[files.get(word, word) for word in wrong]]) == 2


def test_evaluation_needs_no_torch(files: dict[str, str]) -> None:
    program = (
        "import sys; from ookd.cli import main\n"
        f"code = main(['eval', '--gt', {files['gt']!r}, '--pred', {files['a']!r}])\n"
        "sys.exit(code or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == 0
