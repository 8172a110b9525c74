"""With `weigh`, an instance teaches as much in a frame as its labeller was confident there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from label.test_ignored import block, labelled, model_of, track
from ookd.cli import main
from ookd.clips.loader import collate
from ookd.clips.minor_paste import MinorPaste, MinorPasteConfig
from ookd.clips.sources import DatasetClips, hide_labels
from ookd.data import rle
from ookd.data.formats import load, save_ytvis
from ookd.models.families import family_of
from ookd.structures import Batch, Track
from ookd.worlds import World
from ookd.worlds.write import write

TAUGHT = ("class", "mask", "dice", "aux_class", "aux_mask", "aux_dice")


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> DatasetClips:
    """One track with confidences, and one that somebody drew."""
    monkeypatch.setattr(DatasetClips, "_image", lambda *_: np.zeros((32, 48, 3), np.uint8))
    drawn = Track(2, 1, [block(30)] * 2, [rle.box_xywh(block(30))] * 2, [160.0] * 2)
    return DatasetClips(labelled(track(1, 2, [0.8, 0.5]), drawn), weigh=True)


def test_confidences_are_weights_on_their_way_to_training(source: DatasetClips) -> None:
    clip = source.clip(0, [1, 0])
    assert clip.weights is not None
    assert clip.weights == pytest.approx(np.array([[0.5, 0.8], [1, 1]]))
    tracks = collate([clip]).tracks[0]
    assert tracks.weights is not None
    assert (tracks.weights.numpy() == clip.weights).all()
    second = tracks.at(torch.tensor([1])).weights
    assert second is not None
    assert second[:, 0].tolist() == pytest.approx([0.8, 1])
    assert hide_labels(clip, np.random.default_rng(0)).weights is None


def test_work_without_confidences_has_no_weights(source: DatasetClips) -> None:
    assert DatasetClips(source.dataset).clip(0, [0]).weights is None
    source.dataset.videos[0].tracks = source.dataset.videos[0].tracks[1:]
    assert DatasetClips(source.dataset, weigh=True).clip(0, [0]).weights is None


def test_what_is_pasted_has_full_weight() -> None:
    world = World("ytvis-like", videos=4, height=64, width=96, frames=4, crowd=[2, 2])
    clip = world.clip(0, [0, 1])
    clip = replace(clip, weights=np.full((len(clip.ids), 2), 0.5, np.float32))
    pasted = MinorPaste(world, MinorPasteConfig(probability=1.0, most=1))(clip, np.random.default_rng(0))
    assert pasted.weights is not None
    assert pasted.weights.shape == (len(pasted.ids), 2)
    assert pasted.weights[-1].tolist() == [1, 1]
    assert pasted.weights[0].tolist() == [0.5, 0.5]


@pytest.fixture(scope="module")
def task() -> torch.nn.Module:
    model = model_of("nano")
    family = family_of(model)
    return family.task(model, dict(family.loss_weights)).eval()


def learned(
    task: torch.nn.Module, batch: Batch, weight: float | None
) -> tuple[dict[str, float], torch.Tensor]:
    """The terms with one weight for all, and the gradient of the masks' terms."""
    tracks = [
        replace(one, weights=None if weight is None else torch.full(one.visible.shape, weight))
        for one in batch.tracks
    ]
    task.zero_grad()
    terms = task(replace(batch, tracks=tracks))
    (terms["mask"] + terms["aux_dice"]).backward()
    gradient = torch.cat([p.grad.flatten() for p in task.parameters() if p.grad is not None])
    return {name: float(term.detach()) for name, term in terms.items()}, gradient


def test_the_gradient_of_an_instance_is_weighed(task: torch.nn.Module, batch: Batch) -> None:
    plain, full = learned(task, batch, None)
    same, as_full = learned(task, batch, 1.0)
    assert same == pytest.approx(plain, rel=1e-5)
    half, halved = learned(task, batch, 0.5)
    for name in ("mask", "dice", "aux_class", "aux_mask", "aux_dice"):
        assert half[name] == pytest.approx(0.5 * plain[name], rel=1e-5)
    assert halved.norm() > 0
    torch.testing.assert_close(halved, 0.5 * full, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(as_full, full, rtol=1e-3, atol=1e-6)
    none, nothing = learned(task, batch, 0.0)
    assert nothing.abs().max() == 0
    assert 0 < none["class"] < half["class"] < plain["class"], "queries that find nothing learn as before"
    for name in plain.keys() - TAUGHT:
        assert half[name] == pytest.approx(plain[name], rel=1e-5)


def test_only_the_unsure_instance_teaches_less(task: torch.nn.Module, batch: Batch) -> None:
    """Half the weight of one instance takes half of its share of each sum away."""
    tracks = batch.tracks[0]
    weights = torch.ones(tracks.visible.shape)

    def mask_term(first: float) -> float:
        weights[0] = first
        changed = [replace(tracks, weights=weights), batch.tracks[1]]
        with torch.no_grad():
            return float(task(replace(batch, tracks=changed))["mask"])

    whole, half, none = mask_term(1.0), mask_term(0.5), mask_term(0.0)
    assert none < half < whole
    assert whole - half == pytest.approx(half - none, rel=1e-3)


def test_it_is_an_option_of_a_source_and_not_for_every_family(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(World("ytvis-like", "train", 0, 2, height=64, width=96, frames=4, crowd=[2, 2]), tmp_path / "my")
    dataset = load(tmp_path / "my")
    for one in dataset.videos[0].tracks:
        one.extra |= {"score": 0.8, "scores": [None if mask is None else 0.6 for mask in one.segmentations]}
    save_ytvis(dataset, tmp_path / "my" / "instances.json", overwrite=True)
    few = [
        "run.steps=1",
        "run.threads=1",
        "data.workers=0",
        "data.batch=2",
        "data.val=null",
        "data.tune=null",
    ]
    few += ["model.start=nano", "optim.warmup=1", "run.precision=fp32"]
    weights = []
    for weigh in ("true", "false"):
        out = tmp_path / weigh
        train = f"data.train=[{{kind: folder, path: {tmp_path / 'my'}, weigh: {weigh}}}]"
        changes = [word for change in [*few, train] for word in ("--set", change)]
        assert main(["train", "nano", "--out", str(out), "--device", "cpu", *changes]) == 0
        weights.append((out / "model" / "model.safetensors").read_bytes())
    assert weights[0] != weights[1]
    capsys.readouterr()
    train = f"data.train=[{{kind: folder, path: {tmp_path / 'my'}, weigh: true}}]"
    changes = [
        word
        for change in [*few[:6], train, "model.pretrained=false", "model.start=null"]
        for word in ("--set", change)
    ]
    assert (
        main(["train", "idol-r50-ytvis19", "--out", str(tmp_path / "idol"), "--device", "cpu", *changes]) == 2
    )
    assert "weigh is for training frame networks of the compact family" in capsys.readouterr().err
