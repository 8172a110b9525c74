"""How good a model is on a source of videos, the same way for online and offline models."""

from __future__ import annotations

from collections.abc import Mapping
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
from ookd.tracking.config import tracker_config
from ookd.tracking.offline import OfflineConfig, predict_offline
from ookd.tracking.predict import predict


def validate(model: nn.Module, data: DataSource, precision: str, constants: Mapping[str, Any]) -> Report:
    """Predict every video of `data` and score the result against its annotations."""
    device = next(model.parameters()).device
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        results = track_all(model, open_source(data), constants)
    return evaluate(_truth(data.model_dump_json()), results)


def track_all(model: nn.Module, source: ClipSource, constants: Mapping[str, Any]) -> list[TrackResult]:
    """Results of an online model through the tracker, its constants changed so, or of an offline model."""
    config: Any = model.config
    if getattr(model, "offline", False):
        return predict_offline(model, source, OfflineConfig.model_validate(dict(constants)))
    return predict(model, source, tracker_config(config.family, constants))


@lru_cache(maxsize=4)
def _truth(data: str) -> Dataset:
    """The annotations of a source, kept for the next time: drawing a world's takes seconds."""
    source: Any = open_source(TypeAdapter(DataSource).validate_json(data))
    dataset: Dataset = source.dataset if isinstance(source, DatasetClips) else source.dataset()
    return dataset
