"""Every array of the official program, on every stored case."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from conftest import golden_cases
from ookd import UserError
from ookd.evaluation.ap import SUMMARY
from ookd.evaluation.run import evaluate

CASES = golden_cases("ytvoseval/*")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_equals_the_official_program_with_its_defects(case: Path, golden: Path) -> None:
    meta = json.loads((case / "meta.json").read_text())
    arguments = {"official_quirks": True, "class_agnostic": not meta["useCats"]}
    if meta.get("exception"):
        with pytest.raises(UserError):
            evaluate(case / "gt.json", case / "pred.json", **arguments)
        return
    report = evaluate(case / "gt.json", case / "pred.json", **arguments)
    expected = np.load(case / "expected.npz")
    for name in ("precision", "recall", "scores"):
        np.testing.assert_allclose(getattr(report.curves, name), expected[name], rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        [report.summary[name] for name in SUMMARY], expected["stats"], rtol=0, atol=1e-12
    )
    for name in expected.files:
        if name.startswith("iou_"):
            np.testing.assert_allclose(_iou(report, name), expected[name], rtol=0, atol=1e-12, err_msg=name)


def _iou(report, name: str) -> np.ndarray:
    """What is stored: a video's predictions of a class by score, the first 100, against its true tracks."""
    video_id, category = (int(part[1:]) for part in name.removeprefix("iou_").replace("cat", "c").split("_"))
    (video,) = (video for video in report.measured if video.video == video_id)
    ids = sorted(c.id for c in report.truth.categories)
    label = ids.index(category) if category in ids else 0
    results = np.flatnonzero(video.label == label)
    results = results[np.argsort(-video.score[results], kind="stable")][:100]
    return video.iou[np.ix_(results, np.flatnonzero(video.truth_label == label))]
