"""A model that carries state is exported as one step: frame and state in, answers and the next state out."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import onnx
import pytest
import torch

import ookd
from deploy.exported import SIZE
from models.tiny_videomt import written
from ookd.deploy import export as exporting
from ookd.deploy.folder import Kind, Precision, read_exported
from ookd.deploy.graph import OnnxGraphs, trace
from ookd.deploy.runtime import load_exported
from ookd.models import zoo
from ookd.models.videomt.model import Videomt
from ookd.tracking.torch_model import TorchFrameModel

FRAMES = 50
EASY = {"select_score": 0.1, "first_score": 0.1, "new_score": 0.1, "mask_nms": 1.0, "short_side": 64}


@cache
def folder() -> Path:
    """A model whose queries are sure of something, although its weights are random."""
    place = Path(mkdtemp())
    saved = zoo.load(written(place / "theirs", "---\nlicense: mit\n---\n"))
    with torch.no_grad():
        saved.model.net.class_predictor.weight *= 8
    zoo.save_pretrained(saved.model, place / "ours", saved.names, EASY, licence=saved.licence)
    return place / "ours"


@cache
def graphs() -> OnnxGraphs:
    return trace(zoo.load(folder()).model, SIZE)


@cache
def exported(kind: Kind, precision: Precision = "fp32") -> Path:
    out = Path(mkdtemp()) / kind
    before = exporting.trace, exporting.CALIBRATED
    exporting.trace, exporting.CALIBRATED = lambda model, size: graphs(), 8
    try:
        exporting.export(folder(), out, kind, precision, SIZE, scenes=0, required=precision == "fp32")
    finally:
        exporting.trace, exporting.CALIBRATED = before
    return out


@cache
def images(seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 255, (*SIZE, 3), dtype=np.uint8) for _ in range(FRAMES)]


@pytest.mark.parametrize(
    ("kind", "precision", "logits", "masks", "state"),
    [
        ("onnx", "fp32", 1e-4, 1e-5, 1e-5),
        ("openvino", "fp32", 1e-4, 1e-5, 1e-5),
        ("openvino", "bf16", 0.1, 0.02, 0.02),
        ("onnx", "int8", 0.5, 0.1, 0.1),
    ],
)
def test_the_carried_state_stays_close_over_many_frames(
    kind: Kind, precision: Precision, logits: float, masks: float, state: float
) -> None:
    """At frames 1, 10 and 50: the largest errors, of masks and state relative to the largest value."""
    ours, theirs = TorchFrameModel(zoo.load(folder()).model), load_exported(exported(kind, precision))
    before, after = ours.begin(1), theirs.begin(1)
    everyone = np.arange(10)[None]
    for number, image in enumerate(images(), 1):
        a, before = ours.infer([image], SIZE[0], before)
        b, after = theirs.infer([image], SIZE[0], after)
        if number in (1, 10, 50):
            assert np.abs(a.logits - b.logits).max() < logits
            for one, other, limit in (
                (a.masks(everyone), b.masks(everyone), masks),
                (before["query"].numpy(), after["query"], state),
            ):
                assert np.abs(one - other).max() < limit * np.abs(one).max()
    assert after["query"].dtype == np.float32


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_it_tracks_what_torch_tracks_even_restored(kind: Kind, tmp_path: Path) -> None:
    tracker, reference = ookd.load(exported(kind)), ookd.load(folder(), "cpu")
    ours, theirs, again = reference.session(), tracker.session(), tracker.session()
    assert len(theirs.step(images()[0])) == len(ours.step(images()[0])) > 1
    theirs.save(tmp_path / "session.safetensors")
    again.load(tmp_path / "session.safetensors")
    for image in images()[1:6]:
        expected = ours.step(image)
        for session in (theirs, again):
            result = session.step(image)
            assert np.array_equal(result.ids, expected.ids)
            assert np.mean(result.masks != expected.masks) < 1e-3


def test_a_stream_does_not_run_ahead_of_its_state() -> None:
    session = ookd.load(exported("onnx")).session()
    one_by_one = [session.step(image).scores for image in images()[:6]]
    streamed = ookd.load(exported("onnx")).session().stream(images()[:6])
    for scores, result in zip(one_by_one, streamed, strict=True):
        assert np.array_equal(scores, result.scores)


def test_streams_share_a_batch_and_begin_when_they_like() -> None:
    tracker = ookd.load(exported("onnx"))
    together, alone = tracker.sessions(2), tracker.session()
    together.step([images()[0]], [0])
    for t in range(3):
        _, second = together.step([images()[t + 1], images(1)[t]])
        assert np.array_equal(second.masks, alone.step(images(1)[t]).masks)


def test_the_position_table_is_a_constant() -> None:
    """OpenVINO resizes it without antialiasing, so no graph may resize it."""
    assert not [node for node in graphs().frame.graph.node if node.op_type == "Resize"]
    inputs = {value.name for value in graphs().frame.graph.input}
    outputs = {value.name for value in graphs().frame.graph.output}
    assert inputs == {"frames", "size", "state.query"}
    assert {"logits", "embed", "carried.query"} <= outputs
    onnx.checker.check_model(graphs().frame)


def test_the_folder_keeps_state_and_licence() -> None:
    read = read_exported(exported("onnx"))
    assert read.manifest.state == ["query"]
    assert read.licence == "mit"
    model = zoo.load(folder()).model
    assert isinstance(model, Videomt)
    start = load_exported(exported("onnx")).begin(2)
    assert start is not None
    assert np.array_equal(start["query"][1], model.net.query.weight.detach().numpy())


def test_a_damaged_start_is_refused(tmp_path: Path) -> None:
    shutil.copytree(exported("onnx"), tmp_path / "broken")
    (tmp_path / "broken" / "start.safetensors").write_bytes(b"nothing")
    with pytest.raises(ookd.UserError, match=r"start\.safetensors: is not the file that was exported"):
        ookd.load(tmp_path / "broken")
