"""Models around networks of `transformers` learn: their masks and classes, or an embedding head on top."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.test_recipes import write_images
from models.borrowed import CLIP, TINY, tiny, written
from ookd import config
from ookd.clips.loader import collate
from ookd.clips.sampling import DistillSampler
from ookd.clips.sources import ClipDataset
from ookd.engine.build import make_model, make_optimizer, make_task
from ookd.engine.run import run
from ookd.errors import UserError
from ookd.models import zoo
from ookd.models.families import family_of
from ookd.models.protocols import Network, TrainingTask
from ookd.models.rf_detr.training import RfDetrTraining
from ookd.structures import Batch
from ookd.worlds import World

WORLD = {"videos": 2, "height": 64, "width": 96, "frames": 6, "crowd": [2, 3]}
TRAINED = ["eomt-small", "eomt-large-dinov3", "mask2former-swin-tiny", "maskformer-swin-tiny", CLIP]


@pytest.fixture(scope="module")
def batch() -> Batch:
    clips = ClipDataset(World("ytvis-like", **WORLD), DistillSampler(length=3))
    return collate([clips[0, 0], clips[0, 1]])


def task_for(model: Network) -> TrainingTask:
    family = family_of(model)
    task: TrainingTask = family.task(model, dict(family.loss_weights))
    return task.train()


def loss(task: TrainingTask, batch: Batch) -> torch.Tensor:
    terms = task(batch)
    return torch.stack([task.weights[name] * term for name, term in terms.items()]).sum()


def descend(task: TrainingTask, batch: Batch, steps: int, lr: float) -> tuple[float, float]:
    """The loss before and after some steps on one batch."""
    optimizer = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], lr)
    for step in range(steps):
        now = loss(task, batch)
        if step == 0:
            first = now.item()
        optimizer.zero_grad()
        now.backward()
        optimizer.step()
    return first, loss(task, batch).item()


@pytest.mark.parametrize("name", TRAINED)
def test_it_learns_classes_and_masks(name: str, batch: Batch) -> None:
    task = task_for(tiny(name, classes=14))
    assert set(task(batch)) == {"class", "mask", "dice"}
    before, after = descend(task, batch, 12, 2e-3)
    assert after < 0.8 * before
    assert all(p.grad is not None for p in task.parameters() if p.requires_grad)  # as several GPUs need it


def test_a_model_of_the_hub_learns_other_classes(tmp_path: Path, batch: Batch) -> None:
    names = [f"thing {label}" for label in range(4)] + ["LABEL_4"]
    net, folder = written("eomt-small", tmp_path, names)
    with pytest.raises(UserError, match="keep names 4 labels, but there are 14 classes"):
        make_model(config.Model(base=str(folder)), 14)
    model = make_model(config.Model(base=str(folder), change={"keep": []}), 14)
    assert torch.equal(model.net.query.weight, net.query.weight)
    assert model.net.class_predictor.weight.shape[0] == 15
    before, after = descend(task_for(model), batch, 12, 2e-3)
    assert after < 0.8 * before


def test_only_the_embedding_head_of_rf_detr_learns(batch: Batch) -> None:
    model = tiny("rf-detr-seg-small", classes=14, embed=16)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    task = task_for(model)
    assert not any(module.training for module in model.net.modules())
    first, last = descend(task, batch, 20, 3e-3)
    assert last < 0.9 * first
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(name.startswith("embed.") for name in changed)


def test_the_matched_queries_of_rf_detr_are_those_of_squeezed_frames(batch: Batch) -> None:
    """Boxes are relative to the image, masks lie in the padded frames."""
    model = tiny("rf-detr-seg-small", classes=14, embed=16)
    task = task_for(model)
    assert isinstance(task, RfDetrTraining)
    with torch.no_grad():
        _, matches = task.learn(batch)
    seen = batch.seen_by_student()
    frames = len(seen.frames) * seen.frames.shape[1]
    assert matches.valid.shape[0] == frames
    every = matches.answer.masks(torch.arange(10).expand(frames, -1))
    assert every.shape == (frames, 10, *(side // 4 for side in seen.frames.shape[-2:]))
    outside = seen.pad.flatten(0, 1)[:, 2::4, 2::4].unsqueeze(1).expand_as(every)
    assert (every[outside] <= -19).all()


def test_a_recipe_trains_the_head_and_saves_it(tmp_path: Path) -> None:
    world = {"kind": "world", "preset": "ytvis-like", "videos": 2}
    world["change"] = {"height": 60, "width": 90, "frames": 4}
    recipe = config.parse(
        {
            "name": "head",
            "data": {"train": [world], "val": {**world, "split": "val"}, "batch": 2, "workers": 0},
            "model": {
                "base": "rf-detr-seg-small",
                "pretrained": False,
                "change": {"network": TINY["rf-detr-seg-small"], "embed": 8},
            },
            "run": {"steps": 2, "precision": "fp32", "validate_every": 2},
        },
        "head",
    )
    ended = run(recipe, tmp_path, cpu=True)
    assert ended.ap is not None
    trained = zoo.load(ended.model).model
    assert trained.config.embed == 8  # type: ignore[attr-defined]
    task = make_task(make_model(recipe.model, 14), recipe, ["x"] * 14)
    grouped = [p for group in make_optimizer(task, recipe).param_groups for p in group["params"]]
    assert len(grouped) == len(list(task.model.embed.parameters()))  # type: ignore[union-attr]


@pytest.fixture
def coco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images where the bundled recipe looks for COCO."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data/coco"
    write_images(folder / "annotations/instances_train2017.json", folder / "train2017")


@pytest.mark.usefixtures("coco")
def test_the_bundled_recipe_adds_a_head_to_a_model_of_the_hub(tmp_path: Path) -> None:
    _, folder = written("rf-detr-seg-small", tmp_path / "hub", ["cat", "dog"])
    changes = [f"model.base={folder}", "data.augment.sides=[48, 64]", "data.batch=2", "data.workers=0"]
    ended = run(config.load("rf-detr-embed", [*changes, "run.steps=1"]), tmp_path / "run", cpu=True)
    trained, hub = zoo.load(ended.model), zoo.load(folder)
    assert trained.names == ["cat", "dog"]
    assert trained.model.config.embed == 128  # type: ignore[attr-defined]
    for name, tensor in hub.model.state_dict().items():
        assert torch.equal(trained.model.state_dict()[name], tensor)


@pytest.mark.usefixtures("coco")
def test_the_frozen_detector_needs_data_of_its_own_classes(tmp_path: Path) -> None:
    _, folder = written("rf-detr-seg-small", tmp_path / "hub", ["dog", "cat"])
    with pytest.raises(UserError, match="in this order: dog, cat; it has cat, dog"):
        run(config.load("rf-detr-embed", [f"model.base={folder}", "data.workers=0"]), tmp_path / "run")


def test_a_preset_of_rf_detr_has_no_weights_to_build_on() -> None:
    with pytest.raises(UserError, match="a configuration alone has random weights"):
        make_model(config.Model(base="rf-detr-seg-nano", change={"network": TINY["rf-detr-seg-small"]}), 3)


def test_without_a_head_there_is_nothing_to_train() -> None:
    with pytest.raises(UserError, match=r"no embedding head to train; give it one with model\.change"):
        task_for(tiny("rf-detr-seg-small"))
