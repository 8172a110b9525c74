"""Every runtime tracks the same objects, without PyTorch, and refuses damaged folders."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ookd
from deploy.exported import SIZE, compact, exported, images
from ookd.deploy.runtime import letterbox, load_exported
from ookd.errors import UserError
from ookd.structures import FrameResult

RUNTIMES = [("onnx", "onnx"), ("openvino", "openvino")]


def tracked(tracker: ookd.api.Tracker) -> list[FrameResult]:
    config = tracker.config.model_copy(
        update={"short_side": min(SIZE), "first_score": 0.02, "select_score": 0.02}
    )
    session = type(tracker)(tracker.model, tracker.names, config, tracker.device).session()
    return [session.step(image) for image in images()]


@pytest.mark.parametrize(("kind", "runtime"), RUNTIMES)
def test_every_runtime_tracks_what_torch_tracks(kind: str, runtime: str) -> None:
    expected = tracked(ookd.load(compact()))
    assert ookd.load(exported(kind), runtime=runtime).trained_on == "drawn worlds"
    assert any(len(result) for result in expected)
    for one, other in zip(tracked(ookd.load(exported(kind), runtime=runtime)), expected, strict=True):
        assert one.ids.tolist() == other.ids.tolist()
        assert one.labels.tolist() == other.labels.tolist()
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
        assert np.count_nonzero(one.masks != other.masks) <= 1e-3 * one.masks.size


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_a_stream_is_predicted_frame_by_frame_in_order(runtime: str) -> None:
    model = load_exported(exported(runtime), runtime)
    streamed = list(model.stream(iter(images()), None))
    assert [image is given for ([image], _), given in zip(streamed, images(), strict=True)] == [True] * 5
    together, _ = model.infer(images(), None)
    select = np.array([[3, 1]])
    for b, (_, predictions) in enumerate(streamed):
        np.testing.assert_allclose(predictions.logits[0], together.logits[b], atol=1e-5)
        alone, _ = model.infer(images()[b : b + 1], None)
        np.testing.assert_allclose(predictions.masks(select), alone.masks(select), rtol=1e-4, atol=1e-3)
    assert together.masks(np.repeat(select, 5, 0)).shape == (5, 2, SIZE[0] // 2, SIZE[1] // 2)


def test_tracking_an_exported_model_never_imports_torch() -> None:
    code = (
        "import sys, numpy, ookd, ookd.deploy.measure\n"
        f"session = ookd.load({str(exported('onnx'))!r}).session()\n"
        "session.step(numpy.zeros((90, 160, 3), numpy.uint8))\n"
        "print([name for name in ('torch', 'onnx', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_images_are_fitted_into_the_one_size() -> None:
    tall = np.full((200, 100, 3), 7, np.uint8)
    frame, geometry = letterbox(tall, (64, 96), "keep")  # 64 / 200 of it: 64 x 32
    assert (geometry.resized_height, geometry.resized_width) == (64, 32)
    assert frame.shape == (1, 64, 96, 3)
    assert (frame[0, :, :32] == 7).all()
    assert not frame[0, :, 32:].any()
    same, _ = letterbox(images()[0], SIZE, "keep")
    assert (same[0] == images()[0]).all()


def test_a_damaged_folder_is_refused_by_name(tmp_path: Path) -> None:
    folder = shutil.copytree(exported("onnx"), tmp_path / "copy")
    whole = (folder / "frame.onnx").read_bytes()
    (folder / "frame.onnx").write_bytes(whole[:-10])
    with pytest.raises(UserError, match=r"frame\.onnx: is not the file that was exported"):
        load_exported(folder)
    (folder / "frame.onnx").unlink()
    with pytest.raises(UserError, match=r"frame\.onnx: no such file"):
        load_exported(folder)
    (folder / "manifest.json").write_text('{"format": 2}')
    with pytest.raises(UserError, match=r"manifest\.json: format"):
        load_exported(folder)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(UserError, match=r"manifest\.json: is not JSON"):
        load_exported(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config["model"].pop("family"), "model.family: must be a text"),
        (lambda config: config.pop("names"), "names: Field required"),
        (lambda config: config.update(tracker=[1]), "tracker: Input should be a valid dictionary"),
    ],
)
def test_a_damaged_configuration_is_one_clear_line(
    change: Callable[[dict[str, Any]], object], message: str, tmp_path: Path
) -> None:
    folder = shutil.copytree(exported("onnx"), tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["config.json"] = hashlib.sha256((folder / "config.json").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=rf"config\.json: {message}.*; export the model again") as raised:
        load_exported(folder)
    assert "\n" not in str(raised.value)


def test_a_runtime_must_fit_the_folder() -> None:
    with pytest.raises(UserError, match="a graph for openvino, which onnx cannot read"):
        ookd.load(exported("openvino"), runtime="onnx")
    with pytest.raises(UserError, match="which torch cannot read"):
        ookd.load(exported("onnx"), runtime="torch")
    with pytest.raises(UserError, match="openvino needs a folder of `ookd export`"):
        ookd.load(compact(), runtime="openvino")
    with pytest.raises(UserError, match="runtime tensorrt: choose from auto, torch"):
        ookd.load(compact(), runtime="tensorrt")


def test_the_fingerprint_names_weights_runtime_and_precision() -> None:
    graphs, weights = ookd.load(exported("onnx")), ookd.load(compact())
    assert graphs.fingerprint() == f"{weights.fingerprint()}-onnx-fp32"
