"""The published recipes as they are, stepped once: small models, small frames, real file layouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ookd import config
from ookd.config import Recipe
from ookd.engine.loop import Trainer
from ookd.engine.run_log import RunLog
from ookd.errors import UserError
from small_set import counted

HEIGHT, WIDTH = 48, 64
SMALL_SWIN = "{kind: swin, width: 16, blocks: [1, 1, 1, 1], heads: [1, 2, 2, 4], window: 3}"
SMALL_RESNET = "{kind: resnet, width: 4}"
PUBLISHED = [name for name in config.bundled() if name.startswith(("idol", "seqformer"))]


def write_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_videos(annotations: Path, frames: Path) -> None:
    """Two videos of 24 frames in which one object moves, as YouTube-VIS and OVIS are kept."""
    videos, tracks = [], []
    for number in (1, 2):
        names = [f"v{number}/{frame:05d}.jpg" for frame in range(24)]
        for frame, name in enumerate(names):
            write_image(frames / name, 100 * number + frame)
        masks = np.zeros((24, HEIGHT, WIDTH), int)
        for frame in range(24):
            masks[frame, 8:32, frame : frame + 24] = 1
        videos.append({"id": number, "width": WIDTH, "height": HEIGHT, "length": 24, "file_names": names})
        tracks.append(
            {
                "id": number,
                "video_id": number,
                "category_id": number,
                "iscrowd": 0,
                "segmentations": [counted(mask) for mask in masks],
                "bboxes": [[frame, 8, 24, 24] for frame in range(24)],
                "areas": [24 * 24] * 24,
            }
        )
    save(annotations, {"videos": videos}, tracks)


def write_images(annotations: Path, frames: Path) -> None:
    """Two images with a polygon each, as COCO is kept."""
    images, objects = [], []
    for number in (1, 2):
        write_image(frames / f"{number:012d}.jpg", number)
        images.append({"id": number, "width": WIDTH, "height": HEIGHT, "file_name": f"{number:012d}.jpg"})
        objects.append(
            {
                "id": number,
                "image_id": number,
                "category_id": number,
                "iscrowd": 0,
                "segmentation": [[8, 8, 40, 8, 40, 40, 8, 40]],
                "bbox": [8, 8, 32, 32],
                "area": 32 * 32,
            }
        )
    save(annotations, {"images": images}, objects)


def save(path: Path, rest: dict[str, Any], annotations: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    path.write_text(json.dumps({"categories": categories, **rest, "annotations": annotations}))


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data sets where their archives unpack them, under data/."""
    root = tmp_path_factory.mktemp("downloads")
    data = root / "data"
    write_videos(data / "ytvis_2019/train.json", data / "ytvis_2019/train/JPEGImages")
    for year in ("2021", "2022"):
        write_videos(data / f"ytvis_{year}/train/instances.json", data / f"ytvis_{year}/train/JPEGImages")
    write_videos(data / "ovis/annotations_train.json", data / "ovis/train")
    write_images(data / "coco/annotations/instances_train2017.json", data / "coco/train2017")
    return root


def small(name: str, *changes: str) -> Recipe:
    backbone = SMALL_SWIN if "swin" in name else SMALL_RESNET
    return config.load(
        name,
        [
            f"model.change={{backbone: {backbone}, queries: 110, dim: 64, heads: 4, points: 1, "
            "encoder_layers: 1, decoder_layers: 2, ffn: 64}",
            "model.start=null",
            "data.augment.sides=[32, 40]",
            "data.batch=2",
            "data.workers=0",
            "run.steps=1",
            *changes,
        ],
    )


def train(recipe: Recipe, folder: Path) -> Trainer:
    trainer = Trainer(recipe, folder, RunLog(recipe, folder, quiet=True), cpu=True)
    trainer.resume()
    trainer.fit()
    return trainer


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_step_changes_the_model(
    name: str, downloads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(downloads)
    recipe = small(name)
    trainer = Trainer(recipe, tmp_path, RunLog(recipe, tmp_path, quiet=True), cpu=True)
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    trainer.fit()
    (line,) = (json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert np.isfinite([*line["loss"].values(), line["grad_norm"]]).all()
    for trained in ("class_heads.1.weight", "decoder.start.codes.weight", "pixels.layers.0.norm.weight"):
        assert not torch.equal(before[trained], trainer.model.state_dict()[trained]), trained
    frames = next(iter(trainer.loader)).frames.shape[1]
    assert frames == (2 if name.startswith("idol") else 1 if name.endswith("coco") else 5)


@pytest.mark.parametrize("name", [name for name in config.bundled() if name.startswith("videomt-s")])
def test_a_step_of_a_streaming_transformer(
    name: str, downloads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(downloads)
    recipe = config.load(
        name,
        [
            "model.change={hidden_size: 32, num_hidden_layers: 3, num_attention_heads: 2, num_blocks: 2, "
            "num_queries: 10, image_size: 64, train_num_points: 64, backbone: ''}",
            "model.start=null",
            "data.augment.sides=[32, 40]",
            "data.batch=2",
            "data.workers=0",
            "run.steps=1",
        ],
    )
    trainer = Trainer(recipe, tmp_path, RunLog(recipe, tmp_path, quiet=True), cpu=True)
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    trainer.fit()
    assert next(iter(trainer.loader)).frames.shape[1] == 5
    for trained in ("query_updater.weight", "query.weight", "layers.0.mlp.fc1.weight"):
        assert not torch.equal(before[f"net.{trained}"], trainer.model.state_dict()[f"net.{trained}"])


@pytest.mark.parametrize(
    ("name", "batch", "lr", "milestones", "steps", "longest"),
    [
        ("idol-r50-coco", 32, 2e-4, [22200, 44400], 59200, 1333),
        ("idol-swin-l-coco", 16, 2e-4, [59200, 118400], 148000, 1333),
        ("idol-r50-ytvis19", 32, 1e-4, [8000], 12000, 768),
        ("idol-swin-l-ytvis21", 32, 1e-4, [8000], 12000, 768),
        ("idol-swin-l-ovis", 16, 1e-4, [8000], 12000, 1333),
        ("seqformer-r50-ytvis19", 16, 2e-4, [8000], 12000, 1333),
        ("seqformer-swin-l-ytvis19", 16, 2e-4, [8000], 12000, 768),
        ("videomt-s-ytvis19", 8, 1e-4, [], 40000, 768),
    ],
)
def test_schedules_are_the_published_ones(
    name: str, batch: int, lr: float, milestones: list[int], steps: int, longest: int
) -> None:
    recipe = config.load(name)
    assert recipe.optim.milestones == milestones
    assert (recipe.data.batch, recipe.optim.lr, recipe.run.steps) == (batch, lr, steps)
    assert recipe.data.augment.longest == longest


def test_a_source_may_be_augmented_in_its_own_way(
    downloads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images beside videos: the copies of an image differ in size, the frames of a video do not."""
    monkeypatch.chdir(downloads)
    coco = (
        "{kind: folder, path: data/coco/annotations/instances_train2017.json, "
        "augment: {crop: image, sides: [32, 64, 96, 128]}}"
    )
    videos = "{kind: folder, path: data/ytvis_2019/train.json, ratio: 3}"
    recipe = small("idol-r50-ytvis19", f"data.train=[{videos}, {coco}]", "data.augment.crop=none")
    stream = Trainer(recipe, tmp_path, RunLog(recipe, tmp_path, quiet=True), cpu=True).loader.stream
    sizes: dict[int, list[bool]] = {0: [], 1: []}
    for key in [key for epoch in range(8) for key in stream.order(epoch)]:
        key_frame, reference = (image.shape for image in stream[key].images)
        sizes[key[0]].append(key_frame == reference)
    assert len(sizes[0]) == 3 * len(sizes[1])
    assert all(sizes[0])
    assert not all(sizes[1])


def test_crops_without_sides_are_refused() -> None:
    with pytest.raises(UserError, match="crop video needs sides"):
        config.load("nano-ytvis-like", ["data.augment.crop=video"])
