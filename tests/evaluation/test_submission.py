"""Submissions: what servers read back, and never half a file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import ookd
from evaluation.scenes import random_world, results_json
from ookd import UserError
from ookd.evaluation.submission import write_submission
from ookd.structures import TrackResult


def test_json_and_zip_hold_the_result_list(tmp_path: Path) -> None:
    dataset, results = random_world(3)
    plain = write_submission(results, tmp_path / "out" / "results.json")
    packed = write_submission(iter(results), tmp_path / "out" / "submission.zip")
    assert json.loads(plain.read_text()) == results_json(results)
    with zipfile.ZipFile(packed) as archive:
        assert archive.namelist() == ["results.json"]
        assert json.loads(archive.read("results.json")) == results_json(results)
    assert ookd.evaluate(dataset, plain).summary == ookd.evaluate(dataset, results).summary
    assert json.loads(write_submission([], tmp_path / "none.json").read_text()) == []


def test_nothing_is_lost_when_it_exists_or_breaks_off(tmp_path: Path) -> None:
    _, results = random_world(3)
    path = write_submission(results[:1], tmp_path / "results.json")
    before = path.read_bytes()
    with pytest.raises(UserError, match="exists"):
        write_submission(results, path)

    def broken() -> Iterator[TrackResult]:
        yield results[0]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_submission(broken(), path, overwrite=True)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]
    with pytest.raises(UserError, match=r"\.json or \.zip"):
        write_submission(results, tmp_path / "results.txt")
