"""The constants of online tracking, and published settings by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from ookd.errors import UserError

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class TrackerConfig(BaseModel, frozen=True, extra="forbid"):
    """What turns frame queries into tracks. The defaults are IDOL's; `ookd tune` finds a model's own."""

    # The size at which frames are shown to the model; None: as they are.
    short_side: Annotated[int, Field(ge=32)] | None = None

    # Which queries of a frame are looked at: the best class score a query needs, and the IoU above which the
    # weaker of two goes (by box: of one class only; by mask: of any class).
    select_score: Share = 0.1
    box_nms: Share = 0.9
    mask_nms: Share = 0.5

    # Which remembered object a query is: similarity x scale, through a softmax over the memory averaged with
    # one over the detections ("both"), over the memory only, or none; above `match` it is the object.
    # Among several such objects those seen in more frames are preferred.
    similarity: Literal["dot", "cosine"] = "dot"
    scale: Annotated[float, Field(gt=0)] = 1.0
    normalise: Literal["both", "memory", "none"] = "both"
    match: Annotated[float, Field(ge=0)] = 0.5
    prefer_lasting: bool = True

    # What being one object size away from where the object was last takes off the scaled similarity.
    nearness: Annotated[float, Field(ge=0)] = 0.0

    # How an object is remembered: a mean of its last embeddings, weighted by score and newness ("recent"), or
    # a moving average to which the newest adds `momentum`; and for how many frames while it is not seen.
    memory: Literal["recent", "momentum"] = "recent"
    memory_length: Count = 3
    prefer_recent: bool = True
    momentum: Share = 0.8
    horizon: Count = 10

    # The score that begins a new object: while nothing is remembered, and otherwise.
    first_score: Share = 0.2
    new_score: Share = 0.2

    # The answer about a whole video: how class scores are pooled over a track's frames, and whether every
    # class above `final_score` is reported or the best one only.
    pool: Literal["mean", "max"] = "mean"
    every_class: bool = True
    final_score: Share = 0.05

    @property
    def slots(self) -> int:
        """Embeddings that an object's memory holds; a moving average needs one."""
        return self.memory_length if self.memory == "recent" else 1


# "idol" (YouTube-VIS) and "idol-ovis" are published; "compact" was chosen on one half-trained nano
# and the videos it was looked at on: a start for `ookd tune`, not a result.
PRESETS = {
    "idol": TrackerConfig(short_side=480),
    "idol-ovis": TrackerConfig(short_side=720, mask_nms=0.3, new_score=0.3),
    "compact": TrackerConfig(
        short_side=160,
        similarity="cosine",
        scale=20.0,
        match=0.3,
        nearness=2.0,
        memory_length=5,
        horizon=20,
        new_score=0.4,
    ),
}


def tracker_config(family: str, changes: Mapping[str, Any] | None = None) -> TrackerConfig:
    """The constants for a model of this family, with those changed that its folder names."""
    preset = PRESETS.get(family, PRESETS["idol"])
    try:
        return TrackerConfig.model_validate(preset.model_dump() | dict(changes or {}))
    except ValidationError as error:
        wrong = error.errors()[0]
        raise UserError(
            f"tracker constants: {'.'.join(map(str, wrong['loc']))} = {wrong['input']!r}: {wrong['msg']}"
        ) from None
