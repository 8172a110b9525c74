"""The constants that turn queries into tracks, online and offline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from ookd.errors import UserError

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class Constants(BaseModel, frozen=True, extra="forbid"):
    """Constants of a tracker, each in its range."""

    def changed(self, changes: Mapping[str, Any] | None) -> Self:
        """The same with some values changed, as the folder of a model names them."""
        try:
            return self.model_validate(self.model_dump() | dict(changes or {}))
        except ValidationError as error:
            wrong = error.errors()[0]
            raise UserError(
                f"tracker constants: {'.'.join(map(str, wrong['loc']))} = {wrong['input']!r}: {wrong['msg']}"
            ) from None


class TrackerConfig(Constants):
    """What turns frame queries into tracks. The defaults are IDOL's; `ookd tune` finds a model's own."""

    # The size at which frames are shown to the model; None: as they are.
    short_side: Annotated[int, Field(ge=32)] | None = None

    # Which queries of a frame are looked at: the best class score a query needs, and the IoU above which the
    # weaker of two goes (by box: of one class only; by mask: of any class).
    select_score: Share = 0.1
    box_nms: Share = 0.9
    mask_nms: Share = 0.5

    # How queries become identities: by a "memory" of embeddings, by the best pairing with the last frame
    # ("consecutive"), or by the index of the query ("slot").
    associator: str = "memory"

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
    # class above `final_score` is reported or the best one only. "logits" is the softmax of a query's mean
    # logits over all frames of the video, seen or not, as VidEoMT publishes; it needs the associator "slot".
    pool: Literal["mean", "max", "logits"] = "mean"
    every_class: bool = True
    final_score: Share = 0.05

    @model_validator(mode="after")
    def _logits_of_slots(self) -> Self:
        if self.pool == "logits" and self.associator != "slot":
            raise ValueError('pool "logits" needs the associator "slot"')
        return self

    @property
    def slots(self) -> int:
        """Embeddings that an object's memory holds; a moving average needs one."""
        return self.memory_length if self.memory == "recent" else 1


class OfflineConfig(Constants):
    """What turns clip queries into tracks."""

    short_side: Count | None = None  # frames are resized to it; none: they keep their size
    window: Count = 48  # frames seen at once
    shared: Count = 8  # frames that a window shares with the one before
    tube_nms: Share = 0.6  # tube IoU above which the weaker of two queries goes, whatever its class
    join: Share = 0.3  # tube IoU on the shared frames from which two tracks are one
    every_class: bool = True  # report every class above `final_score`, or the best one only
    final_score: Share = 0.05
