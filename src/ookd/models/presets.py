"""The published configurations by name, and our own compact ones."""

from __future__ import annotations

from typing import Any

from ookd.errors import UserError
from ookd.models import zoo
from ookd.models.backbones.resnet import ResNetConfig
from ookd.models.backbones.swin import SwinConfig
from ookd.models.compact.clip import CompactClipConfig
from ookd.models.compact.model import CompactConfig
from ookd.models.idol.model import IdolConfig
from ookd.models.seqformer.model import SeqFormerConfig

ModelConfig = IdolConfig | SeqFormerConfig | CompactConfig

# more of everything than nano, for objects that are many or alike
_SMALL = {
    "trunk": "lite2",
    "width": 192,
    "mask_width": 48,
    "embed": 96,
    "hidden": 768,
    "layers": 5,
    "queries": 80,
}

PRESETS: dict[str, ModelConfig] = {
    "idol-r50": IdolConfig(),
    "idol-r101": IdolConfig(backbone=ResNetConfig(depth=101)),
    "idol-swin-l": IdolConfig(backbone=SwinConfig()),
    "seqformer-r50": SeqFormerConfig(),
    "seqformer-swin-l": SeqFormerConfig(backbone=SwinConfig()),
    "nano": CompactConfig(),
    "nano-clip": CompactClipConfig(),
    "small": CompactConfig.model_validate(_SMALL),
    "small-clip": CompactClipConfig.model_validate({**_SMALL, "clip_queries": 32, "clip_layers": 4}),
}


def preset(name: str, **changes: Any) -> ModelConfig:
    """A configuration with some values changed: preset("idol-r50", classes=3)."""
    if name not in PRESETS:
        raise UserError(f"no model configuration {name!r}; there are {', '.join(PRESETS)}")
    config: Any = zoo.parse_config({**dict(PRESETS[name]), **changes})
    return config
