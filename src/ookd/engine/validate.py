"""How good a model is on a source of videos, the same way for online and offline models."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import nn

from ookd.config import DataSource
from ookd.data.clips import ClipSource, DatasetClips
from ookd.engine.build import open_source
from ookd.evaluation.report import Report
from ookd.evaluation.run import evaluate
from ookd.structures import Dataset, TrackResult
from ookd.tracking.config import PRESETS, TrackerConfig
from ookd.tracking.offline import OfflineConfig, predict_offline
from ookd.tracking.predict import predict


def validate(
    model: nn.Module, data: DataSource, precision: str, tracker: TrackerConfig | None = None
) -> tuple[Report, list[TrackResult]]:
    """Predict every video of `data` and score the result against its annotations."""
    source = open_source(data)
    device = next(model.parameters()).device
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        results = run(model, source, tracker)
    return evaluate(truth_of(data), results), results


def tracker_of(model: nn.Module) -> TrackerConfig:
    """The constants a freshly trained model starts from, until `ookd tune` finds its own."""
    config: Any = model.config
    return PRESETS["compact" if config.family == "compact" else "idol"]


def run(model: nn.Module, source: ClipSource, tracker: TrackerConfig | None = None) -> list[TrackResult]:
    """Results of an online model through the tracker, or of an offline one."""
    offline: Any = getattr(model, "offline", False)
    if offline:
        return predict_offline(model, source, OfflineConfig())
    return predict(model, source, tracker or TrackerConfig())


@lru_cache(maxsize=4)
def _truth(data: str) -> Dataset:
    source: Any = open_source(TypeAdapter(DataSource).validate_json(data))
    dataset: Dataset = source.dataset if isinstance(source, DatasetClips) else source.dataset()
    return dataset


def truth_of(data: DataSource) -> Dataset:
    """The annotations of a source, kept for the next time: drawing a world's takes seconds."""
    return _truth(data.model_dump_json())
