"""Families for models that only tests have."""

from __future__ import annotations

from typing import Any

from ookd.config.tracker import OfflineConfig, TrackerConfig
from ookd.models.families import FAMILIES
from ookd.models.family import Family
from ookd.models.preprocess import IMAGENET
from ookd.models.protocols import ModelConfig, OfflineModel, OnlineModel, TrainingTask


def toy_family(network: type[OnlineModel | OfflineModel], classes: int, **fields: Any) -> ModelConfig:
    """Make a family for this network and list it; the configuration that its models have."""
    name = network.__name__
    online = issubclass(network, OnlineModel)
    globals()[name] = Family(
        **{
            "name": name,
            "config": ModelConfig,
            "network": network,
            "task": TrainingTask,
            "preprocessing": IMAGENET,
            "loss_weights": {},
            "tracker": TrackerConfig() if online else OfflineConfig(),
            "backbone": "backbone.",
            **fields,
        }
    )
    FAMILIES[name] = f"{__name__}:{name}"
    return ModelConfig(family=name, classes=classes)
