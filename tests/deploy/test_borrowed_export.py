"""Models around networks of `transformers`, exported: the same answers about the same frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from deploy.exported import open_graphs
from models.borrowed import tiny
from ookd.deploy import export as exporting
from ookd.deploy.convert import write_graphs
from ookd.deploy.graph import trace
from ookd.deploy.runtime import load_exported
from ookd.models import zoo
from ookd.models.families import family_of
from ookd.tracking.torch_model import TorchFrameModel

SELECTED = np.array([[1, 3]])


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("rf-detr-seg-small", (48, 48)),  # smaller than the position table, which is smoothed then
        ("eomt-small", (32, 64)),
    ],
)
def test_runtimes_answer_as_pytorch(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    model = tiny(name)
    family = family_of(model)
    graphs = trace(model, size)  # type: ignore[arg-type]
    image = np.random.default_rng(0).integers(0, 255, (1, *size, 3), dtype=np.uint8)
    pad = torch.zeros(1, *size, dtype=torch.bool)
    with torch.no_grad():
        frames = family.preprocessing.normalise(torch.from_numpy(image).permute(0, 3, 1, 2), pad)
        answer, _ = model(frames, pad)
        logits = family.class_logits(answer.logits).numpy()
        masks = answer.masks(torch.from_numpy(SELECTED)).numpy()
    for kind in ("onnx", "openvino"):
        (tmp_path / kind).mkdir()
        write_graphs(graphs, tmp_path / kind, kind, "fp32", iter(()))
        runner = open_graphs(tmp_path / kind, kind)
        outputs = runner.start({"frames": image, "size": np.array(size)})()
        shared = {name: outputs[name] for name in graphs.shared}
        np.testing.assert_allclose(outputs["logits"], logits, atol=1e-4)
        found = runner.masks({**shared, "select": SELECTED})
        np.testing.assert_allclose(found, masks, atol=1e-4 * np.abs(masks).max())


def test_large_frames_reach_an_exported_rf_detr_as_they_reach_pytorch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Squeezed without smoothing, which changes fine patterns a lot."""
    monkeypatch.setattr(exporting, "COMPARED", 4)
    model = tiny("rf-detr-seg-small")
    zoo.save_pretrained(model, tmp_path / "model", list("abcde"))
    exporting.export(tmp_path / "model", tmp_path / "out", "onnx", "fp32", (72, 72), scenes=0)
    exported = load_exported(tmp_path / "out")
    assert (exported.aspect, exported.antialias) == ("square", False)
    image = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    theirs, _ = exported.infer([image], 72)
    ours, _ = TorchFrameModel(model, "cpu").infer([image], 72)  # type: ignore[arg-type]
    np.testing.assert_allclose(theirs.logits, ours.logits, atol=0.05)
    assert theirs.geometries == ours.geometries
    exported.antialias = True
    assert np.abs(exported.infer([image], 72)[0].logits - ours.logits).max() > 0.1
