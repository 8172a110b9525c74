"""How far a student and its teacher agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ookd
from ookd.cli import main
from ookd.data import rle
from ookd.data.formats import save_ytvis
from ookd.evaluation.agreement import agreement
from ookd.structures import Category, Dataset, Rle, Track, TrackResult, Video


def mask(left: int, width: int = 4) -> Rle:
    frame = np.zeros((8, 40), bool)
    frame[2:6, left : left + width] = True
    return rle.encode(frame)


def label(id: int, category: int, left: int, crowd: bool = False) -> Track:
    return Track(id, category, [mask(left)] * 2, [rle.box_xywh(mask(left))] * 2, [16.0] * 2, crowd)


def prediction(category: int, left: int, score: float = 0.9, width: int = 4) -> TrackResult:
    return TrackResult(1, category, score, [mask(left, width)] * 2)


LABELS = Dataset(
    [Category(1, "cat"), Category(2, "dog")],
    [
        Video(
            1,
            40,
            8,
            ["a", "b"],
            [label(1, 1, 0), label(2, 1, 8), label(3, 2, 16), label(4, 2, 24, crowd=True)],
        )
    ],
)
RESULTS = [
    prediction(1, 0, width=3),  # overlap 0.75
    prediction(2, 8),  # another class
    prediction(2, 24),  # what the teacher doubts
    prediction(2, 32),  # what only the student sees
    prediction(2, 16, score=0.1),  # too unsure to count
]


def test_counts_by_hand() -> None:
    found = agreement(ookd.evaluate(LABELS, RESULTS))
    cat, dog = found.per_class["cat"], found.per_class["dog"]
    assert (cat.teacher, cat.student, cat.both, cat.renamed) == (2, 1, 1, 1)
    assert (cat.found, cat.confirmed, cat.overlap) == (0.5, 1.0, pytest.approx(0.75))
    assert (dog.teacher, dog.student, dog.both, dog.renamed) == (1, 2, 0, 0)
    assert (dog.found, dog.confirmed, dog.overlap) == (0.0, 0.0, None)
    assert (found.all.teacher, found.all.student, found.all.both) == (3, 3, 1)


def test_on_the_command_line_with_the_corrections_of_a_review(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_ytvis(LABELS, tmp_path / "gt.json")
    fields = ("video_id", "category_id", "score", "segmentations")
    results = [{name: getattr(result, name) for name in fields} for result in RESULTS]
    (tmp_path / "results.json").write_text(json.dumps(results))
    call = ["eval", "--gt", str(tmp_path / "gt.json"), "--pred", str(tmp_path / "results.json")]

    def told() -> dict[str, Any]:
        assert main([*call, "--agreement", "--json"]) == 0
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    assert told()["per_class"]["cat"]["found"] == 0.5
    edit = {"op": "rename", "video": 1, "track": 2, "name": "dog"}
    (tmp_path / "gt.edits.jsonl").write_text(json.dumps(edit) + "\n")
    assert told()["per_class"]["cat"]["found"] == 1.0
    assert main([*call, "--agreement"]) == 0
    assert "confirmed" in capsys.readouterr().out
    assert main([*call, "--agreement", "--report", str(tmp_path / "r.html")]) == 2
