"""The families of models. A new one is a folder with its record, and a line here."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from typing import Any

import pydantic
from torch import nn

from ookd.config.tracker import TrackerConfig
from ookd.errors import UserError
from ookd.models.family import Family
from ookd.models.protocols import ModelConfig

# name -> where the record is; imported when first used
FAMILIES = {
    "idol": "ookd.models.idol.family:IDOL",
    "seqformer": "ookd.models.seqformer.family:SEQFORMER",
    "compact": "ookd.models.compact.family:COMPACT",
    "compact-memory": "ookd.models.compact.family:COMPACT_MEMORY",
    "compact-clip": "ookd.models.compact.family:COMPACT_CLIP",
    "rf-detr": "ookd.models.rf_detr.family:RF_DETR",
    "eomt": "ookd.models.eomt.family:EOMT",
    "mask2former": "ookd.models.mask2former.family:MASK2FORMER",
    "maskformer": "ookd.models.mask2former.family:MASKFORMER",
    "mask2former-clip": "ookd.models.mask2former.family:MASK2FORMER_CLIP",
    "videomt": "ookd.models.videomt.family:VIDEOMT",
}


def family_named(name: object) -> Family:
    """The record of a family."""
    if not isinstance(name, str) or name not in FAMILIES:
        raise UserError(f"family: {name!r} is none of {', '.join(FAMILIES)}")
    family: Family = pkgutil.resolve_name(FAMILIES[name])
    return family


def family_of(model: nn.Module) -> Family:
    """The family that a model belongs to."""
    config: Any = model.config
    return family_named(config.family)


def parse_config(fields: Mapping[str, Any]) -> ModelConfig:
    """The typed configuration from plain fields; "family" selects the type."""
    try:
        return family_named(fields.get("family")).config.model_validate(fields)
    except pydantic.ValidationError as error:
        wrong = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise UserError("; ".join(wrong)) from error


def presets() -> dict[str, ModelConfig]:
    """All named configurations."""
    return {name: config for family in FAMILIES for name, config in family_named(family).presets.items()}


def preset(name: str, **changes: Any) -> ModelConfig:
    """A named configuration with some values changed: preset("idol-r50", classes=3)."""
    known = presets()
    if name not in known:
        raise UserError(f"no model configuration {name!r}; choose from {', '.join(known)}")
    return parse_config({**dict(known[name]), **changes})


def tracker_config(family: str, changes: Mapping[str, Any] | None = None) -> TrackerConfig:
    """The tracker's constants for an online family, with some values changed."""
    constants = family_named(family).tracker
    if not isinstance(constants, TrackerConfig):
        raise UserError(f"{family} models see whole clips; only models of single frames track online")
    return constants.changed(changes)
