"""A training run of seconds, with validation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ookd import config
from ookd.config import Recipe

SMALL = "{height: 64, width: 96, frames: 6, crowd: [2, 3]}"
CHANGES = [
    "data.train.0.videos=12",
    f"data.train.0.change={SMALL}",
    f"data.val={{kind: world, preset: ytvis-like, split: val, videos: 3, change: {SMALL}}}",
    "data.workers=0",
    "data.batch=2",
    "model.change={width: 32, mask_width: 16, embed: 16, heads: 4, hidden: 64, queries: 8, frozen: 5}",
    "optim.warmup=4",
    "run.steps=6",
    "run.precision=fp32",
    "run.threads=1",
    "run.log_every=1",
    "run.save_every=2",
    "run.keep=9",
    "run.validate_every=2",
    "run.val_videos=2",
]


def recipe(*changes: str) -> Recipe:
    return config.load("nano-ytvis-like", [*CHANGES, *changes])


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder: Path) -> list[tuple[int, dict[str, float]]]:
    return [(line["step"], line["loss"]) for line in lines(folder) if "loss" in line]


def validations(folder: Path) -> list[tuple[int, dict[str, float]]]:
    return [(line["step"], line["val"]) for line in lines(folder) if "val" in line]
