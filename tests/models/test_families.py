"""Everything asks a model's family: a new one needs its module and a line in the registry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import ookd
from models.blobs import Blobs, BlobsConfig, SquareBlobs, SquareBlobsConfig
from ookd import config
from ookd.deploy import export as exporting
from ookd.engine.build import make_model, make_optimizer, make_task
from ookd.engine.run import run
from ookd.errors import UserError
from ookd.models import zoo
from ookd.models.families import FAMILIES, family_named, family_of, presets, tracker_config
from ookd.structures import FrameResult
from ookd.tracking.torch_model import TorchFrameModel, prepare

NAMES = ["red", "green", "blue"]
CPU = torch.device("cpu")
SMALL = {"width": 32, "mask_width": 16, "embed": 16, "heads": 4, "hidden": 64, "queries": 6}


@pytest.fixture(autouse=True)
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "blobs", "models.blobs:BLOBS")
    monkeypatch.setitem(FAMILIES, "square-blobs", "models.blobs:SQUARE_BLOBS")


def image(t: int = 0, height: int = 64, width: int = 96) -> np.ndarray:
    """A red block that moves right, and a green one that stays."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[8:24, 8 + 4 * t : 32 + 4 * t, 0] = 255
    picture[40:56, 16:48, 1] = 255
    return picture


def overlap(result: FrameResult, label: int, t: int) -> float:
    (row,) = np.flatnonzero(result.labels == label)
    truth = image(t)[..., label] > 0
    mask = result.masks[row]
    return float((mask & truth).sum() / (mask | truth).sum())


def saved(folder: Path, model: Blobs) -> Path:
    zoo.save_pretrained(model, folder, NAMES)
    return folder


def test_it_saves_loads_and_tracks_with_its_state(tmp_path: Path) -> None:
    tracker = ookd.load(saved(tmp_path / "model", Blobs(BlobsConfig(sureness=2.5))), device="cpu")
    assert isinstance(tracker.model, Blobs)
    assert tracker.model.config.sureness == 2.5
    assert tracker.config.new_score == 0.6
    session = tracker.session()
    results = [session.step(image(t)) for t in range(5)]
    assert {tuple(result.ids) for result in results} == {(0, 1)}
    assert all(overlap(result, label, t) > 0.9 for t, result in enumerate(results) for label in (0, 1))
    assert session.state["model.frames"].tolist() == [[5.0]]
    assert results[0].scores[0] > results[4].scores[0]  # the mean so far

    session.save(tmp_path / "session.safetensors")
    again = tracker.session()
    again.load(tmp_path / "session.safetensors")
    assert np.array_equal(again.step(image(5)).scores, session.step(image(5)).scores)


def test_a_recipe_trains_and_validates_it(tmp_path: Path) -> None:
    world = {"kind": "world", "preset": "ytvis-like", "videos": 2}
    world["change"] = {"height": 50, "width": 70, "frames": 4}
    recipe = config.parse(
        {
            "name": "blobs",
            "data": {"train": [world], "val": {**world, "split": "val"}, "batch": 2, "workers": 0},
            "model": {"base": "blobs-tiny"},
            "run": {"steps": 2, "precision": "fp32", "validate_every": 2},
        },
        "blobs",
    )
    before = zoo.build(presets()["blobs-tiny"])
    ended = run(recipe, tmp_path, cpu=True)
    assert ended.steps == 2
    assert ended.ap is not None
    trained = zoo.load(ended.model).model
    assert isinstance(trained, Blobs)
    weights = before.get_parameter("backbone.weight"), trained.backbone.weight
    assert not torch.equal(*weights)


def test_frames_are_padded_to_its_multiple() -> None:
    preprocessing = family_named("blobs").preprocessing
    frames, pad, _ = prepare([image(0, 50, 70)], None, preprocessing, CPU)
    assert frames.shape[-2:] == pad.shape[-2:] == (64, 80)


def test_export_refuses_what_sees_clips(tmp_path: Path) -> None:
    clip = make_model(config.Model(base="nano-clip", pretrained=False, change=SMALL), 3)
    zoo.save_pretrained(clip, tmp_path / "clip", NAMES)
    with pytest.raises(UserError, match="sees whole clips"):
        exporting.export(tmp_path / "clip", tmp_path / "out", "onnx", "fp32", (64, 96), scenes=0)


def test_an_export_counts_frames_as_pytorch_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "COMPARED", 4)
    folder = saved(tmp_path / "model", Blobs(BlobsConfig()))
    exporting.export(folder, tmp_path / "out", "onnx", "fp32", (64, 96), scenes=0)
    sessions = [ookd.load(tmp_path / "out").session(), ookd.load(folder, device="cpu").session()]
    for t in range(4):
        theirs, ours = (session.step(image(t)) for session in sessions)
        assert np.allclose(theirs.scores, ours.scores, atol=1e-4)
    assert sessions[0].state["model.frames"].tolist() == [[4.0]]


@pytest.mark.parametrize(
    ("size", "words"), [((64, 72), "multiples of 16"), ((64, 96), "same height and width")]
)
def test_export_refuses_sizes_that_it_cannot_see(size: tuple[int, int], words: str, tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", SquareBlobs(SquareBlobsConfig()))
    with pytest.raises(UserError, match=words):
        exporting.export(folder, tmp_path / "out", "onnx", "fp32", size, scenes=0)


def test_exported_squares_are_tracked_as_in_pytorch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "COMPARED", 4)
    folder = saved(tmp_path / "model", SquareBlobs(SquareBlobsConfig()))
    exporting.export(folder, tmp_path / "out", "onnx", "fp32", (64, 64), scenes=0)
    sessions = [ookd.load(tmp_path / "out").session(), ookd.load(folder, device="cpu").session()]
    for t in range(3):
        theirs, ours = (session.step(image(t)) for session in sessions)
        assert np.array_equal(theirs.ids, ours.ids)
        assert np.allclose(theirs.scores, ours.scores, atol=1e-4)
        assert min(overlap(theirs, label, t) for label in (0, 1)) > 0.85


def test_softmax_scores_are_those_of_the_classes_without_no_object() -> None:
    model = SquareBlobs(SquareBlobsConfig())
    preprocessing = family_of(model).preprocessing
    frames, pad, (geometry,) = prepare([image()], 48, preprocessing, CPU)
    assert frames.shape[-2:] == (48, 48)
    assert (geometry.resized_height, geometry.resized_width) == (48, 48)
    with torch.no_grad():
        expected = model(preprocessing.normalise(frames, pad), pad)[0].logits.softmax(-1)[..., :-1]
    predictions, _ = TorchFrameModel(model, CPU).infer([image()], 48)
    assert predictions.logits.shape == (1, 3, 3)
    assert np.allclose(1 / (1 + np.exp(-predictions.logits)), expected, atol=1e-5)


def test_constants_are_the_familys_own() -> None:
    assert tracker_config("blobs", {"match": 0.4}).new_score == 0.6
    with pytest.raises(UserError, match="see whole clips"):
        tracker_config("seqformer")
    with pytest.raises(UserError, match=r"tracker constants: match = 'x'"):
        tracker_config("blobs", {"match": "x"})
    with pytest.raises(UserError, match="'mask3former' is none of"):
        tracker_config("mask3former")


def test_a_teacher_cannot_be_tracked_with(tmp_path: Path) -> None:
    clip = make_model(config.Model(base="nano-clip", pretrained=False, change=SMALL), 3)
    zoo.save_pretrained(clip, tmp_path / "clip", NAMES)
    tracker = ookd.load(tmp_path / "clip", device="cpu")
    with pytest.raises(UserError, match="sees whole clips, not single frames"):
        tracker.session()


def test_every_record_is_listed_under_its_own_name() -> None:
    for name in (name for name, place in FAMILIES.items() if place.startswith("ookd.")):
        family = family_named(name)
        assert family.name == name == family.config.model_fields["family"].default
        assert all(config.family == name for config in family.presets.values())


VIT = {"model_type": "dinov2", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
DEEP = {"encoder_layers": 1, "decoder_layers": 2, "dim": 64, "ffn": 64}


@pytest.mark.parametrize(
    ("base", "change", "marks"),
    [
        ("nano", SMALL, ".trunk."),
        ("nano-clip", {**SMALL, "freeze_frame": False}, ".trunk."),
        ("idol-r50", DEEP, ".backbone."),
        ("idol-r50", {**DEEP, "backbone": {"kind": "lite"}}, ".backbone."),
        ("idol-r50", {**DEEP, "backbone": {"kind": "transformers", "config": VIT}}, ".backbone."),
        ("seqformer-r50", {**DEEP, "start": "peaks"}, ".backbone."),
    ],
)
@pytest.mark.parametrize("taught", [False, True])
def test_the_backbone_learns_at_its_own_rate(
    base: str, change: dict[str, object], marks: str, taught: bool, tmp_path: Path
) -> None:
    recipe = {"name": "x", "data": {"train": [{"kind": "world"}]}, "optim": {"lr": 1e-3, "trunk": 0.1}}
    if taught:
        if family_named(presets()[base].family).sees == "clips":
            pytest.skip("a student sees frames")
        clip = make_model(config.Model(base="nano-clip", pretrained=False, change=SMALL), 3)
        zoo.save_pretrained(clip, tmp_path, NAMES)
        recipe["distill"] = {"teacher": str(tmp_path)}
    parsed = config.parse(recipe, "x")
    model = make_model(config.Model(base=base, pretrained=False, change=change), 3)
    task = make_task(model, parsed, NAMES)
    slow = {
        id(parameter)
        for group in make_optimizer(task, parsed).param_groups
        if group["lr"] == pytest.approx(1e-4)
        for parameter in group["params"]
    }
    expected = {id(p) for name, p in task.named_parameters() if p.requires_grad and marks in f".{name}"}
    assert slow == expected != set()
