"""A small data set on disk and a small untrained model that nevertheless finds something."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import torch

from ookd.data import rle
from ookd.models import zoo
from ookd.models.backbones.resnet import ResNetConfig
from ookd.models.families import preset
from ookd.models.idol.model import Idol, IdolConfig

VIDEOS, FRAMES, SIZE = 4, 6, (64, 96)


def write_data(folder: Path) -> Path:
    """Four videos of a bright square on noise, annotated, as one YTVIS file."""
    rng = np.random.default_rng(0)
    videos, annotations = [], []
    for v in range(VIDEOS):
        names, masks = [], []
        for t in range(FRAMES):
            image = rng.integers(0, 128, (*SIZE, 3), np.uint8)
            mask = np.zeros(SIZE, bool)
            mask[8 + 4 * v : 40 + 4 * v, 4 * t : 4 * t + 32] = True
            image[mask] = 255
            names.append(f"{v}/{t:03d}.png")
            (folder / "frames" / str(v)).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / "frames" / names[-1]), image)
            masks.append(rle.encode(mask))
        videos.append(
            {"id": v + 1, "width": SIZE[1], "height": SIZE[0], "length": FRAMES, "file_names": names}
        )
        annotations.append(
            {
                "id": v + 1,
                "video_id": v + 1,
                "category_id": 1 + v % 2,
                "iscrowd": 0,
                "width": SIZE[1],
                "height": SIZE[0],
                "length": FRAMES,
                "segmentations": masks,
                "bboxes": [rle.box_xywh(mask) for mask in masks],
                "areas": [rle.area(mask) for mask in masks],
            }
        )
    categories = [{"id": 1, "name": "square"}, {"id": 2, "name": "block"}]
    path = folder / "instances.json"
    path.write_text(json.dumps({"videos": videos, "annotations": annotations, "categories": categories}))
    return path


def write_model(folder: Path) -> Path:
    """Tiny IDOL: random weights, but sure of itself, and looking at small frames."""
    torch.manual_seed(0)
    config = IdolConfig(
        backbone=ResNetConfig(width=8),
        classes=2,
        queries=12,
        dim=64,
        heads=2,
        encoder_layers=1,
        decoder_layers=2,
        ffn=32,
    )
    model = Idol(config)
    for head in model.class_heads:
        torch.nn.init.normal_(head.weight, std=0.5)
        torch.nn.init.zeros_(head.bias)
    zoo.save_pretrained(model, folder, ["square", "block"], {"short_side": 64})
    return folder


def write_clip_model(folder: Path) -> Path:
    """A tiny offline model: random weights, but sure of itself, and looking at windows of four frames."""
    torch.manual_seed(0)
    small = {"width": 32, "mask_width": 16, "embed": 16, "heads": 4, "hidden": 64, "queries": 6}
    model = zoo.build(preset("nano-clip", classes=2, clip_queries=4, **small))
    torch.nn.init.constant_(model.presence.bias, 5.0)
    torch.nn.init.constant_(model.classify.bias, 1.0)
    zoo.save_pretrained(model, folder, ["square", "block"], {"short_side": 64, "window": 4, "shared": 2})
    return folder
