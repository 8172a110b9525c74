"""The records of the compact families: the online student, the one with a memory, and the clip teacher."""

from __future__ import annotations

from ookd.config.tracker import OfflineConfig, TrackerConfig
from ookd.models.compact import clip_training, memory_training, training
from ookd.models.compact.clip import CompactClip, CompactClipConfig
from ookd.models.compact.config import CompactConfig
from ookd.models.compact.memory import CompactMemory, CompactMemoryConfig
from ookd.models.compact.model import Compact
from ookd.models.family import Family
from ookd.models.preprocess import IMAGENET

# more of everything than nano, for objects that are many or alike
_SMALL = {
    "trunk": "lite2",
    "width": 192,
    "fine_width": 96,
    "mask_width": 48,
    "embed": 96,
    "hidden": 768,
    "layers": 5,
    "queries": 80,
}

# Which queries are looked at and which begin an object. As the constants of the family below, it was searched
# for the bundled nano on tuning videos of three worlds (docs/results/association.md).
_SELECTED = TrackerConfig(
    short_side=160, select_score=0.25, mask_nms=0.35, first_score=0.25, new_score=0.3, doubt=2.0
)
_IN_EIGHT_BITS = ("encoder.*", "*.look.coarse.key", "*.look.coarse.value")

COMPACT = Family(
    name="compact",
    config=CompactConfig,
    network=Compact,
    task=training.CompactTraining,
    preprocessing=IMAGENET,
    loss_weights=training.WEIGHTS,
    presets={"nano": CompactConfig(), "small": CompactConfig.model_validate(_SMALL)},
    tracker=_SELECTED.changed(
        {
            "associator": "assignment",
            "match": 0.63,
            "nearness": 0.05,
            "far": 6.0,
            "motion": 0.6,
            "other_class": 0.08,
            "growth": 0.02,
            "whole_track": 0.7,
            "memory_length": 4,
            "horizon": 60,
        }
    ),
    backbone="encoder.trunk.",
    dense=_IN_EIGHT_BITS,
)

COMPACT_MEMORY = Family(
    name="compact-memory",
    config=CompactMemoryConfig,
    network=CompactMemory,
    task=memory_training.CompactMemoryTraining,
    preprocessing=IMAGENET,
    loss_weights=memory_training.WEIGHTS,
    presets={"nano-memory": CompactMemoryConfig()},
    # The model says who is who; what is shown is chosen as for the stateless student. The tracker forgets
    # later than a video of ten seconds would notice.
    tracker=_SELECTED.changed({"associator": "slot", "horizon": 300}),
    backbone="frame.encoder.trunk.",
    dense=("frame.encoder.*", *_IN_EIGHT_BITS[1:]),
)

COMPACT_CLIP = Family(
    name="compact-clip",
    config=CompactClipConfig,
    network=CompactClip,
    task=clip_training.CompactClipTraining,
    preprocessing=IMAGENET,
    loss_weights=clip_training.WEIGHTS,
    presets={
        "nano-clip": CompactClipConfig(),
        "small-clip": CompactClipConfig.model_validate({**_SMALL, "clip_queries": 32, "clip_layers": 4}),
    },
    tracker=OfflineConfig(),
    backbone="frame.encoder.trunk.",
)
