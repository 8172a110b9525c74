"""The student with a memory as one step, (frame, state) -> (answers, state'), in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import ookd
from ookd.deploy import export as exporting
from ookd.models import zoo
from ookd.models.families import preset
from ookd.tracking.recordings import recordings
from ookd.worlds import World

SIZE = (96, 160)


def test_ten_frames_are_tracked_as_in_pytorch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "COMPARED", 4)
    model = zoo.build(preset("nano-memory", classes=14))
    zoo.start_from(model, "nano")
    zoo.save_pretrained(model, tmp_path / "model", zoo.load("nano").names, {"short_side": 96})
    exporting.export(tmp_path / "model", tmp_path / "out", "onnx", "fp32", SIZE, scenes=0)
    height, width = SIZE
    world = World("identity", split="tune", videos=1, size=(0.3, 0.6), height=height, width=width, frames=10)
    sessions = [ookd.load(tmp_path / "out").session(), ookd.load(tmp_path / "model", device="cpu").session()]
    seen = 0
    for image in recordings(world)[0].images():
        theirs, ours = (session.step(image) for session in sessions)
        assert np.array_equal(theirs.ids, ours.ids)
        np.testing.assert_allclose(theirs.scores, ours.scores, atol=1e-3)
        assert np.mean(theirs.masks != ours.masks) < 1e-3
        seen += len(ours)
    assert seen > 15
    carried = [session.state for session in sessions]
    for name in ("number", "seen", "place"):
        np.testing.assert_allclose(*(state[f"model.{name}"] for state in carried), atol=1e-3)
