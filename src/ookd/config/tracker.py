"""The constants that turn queries into tracks, online and offline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from ookd.errors import UserError

LARGEST_SIDE = 2160  # pixels; a frame of this size takes seconds
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=1000)]  # memory and time grow with it
Factor = Annotated[float, Field(ge=0, le=1e6)]


class Constants(BaseModel, frozen=True, extra="forbid"):
    """Constants of a tracker, each in its range."""

    def changed(self, changes: Mapping[str, Any] | None) -> Self:
        """The same with some values changed; "link.match" is the `match` of `link`."""
        values = self.model_dump()
        for name, value in dict(changes or {}).items():
            group, dot, part = name.partition(".")
            if dot and isinstance(values.get(group), dict):
                values[group][part] = value
            else:
                values[name] = value
        try:
            return self.model_validate(values)
        except ValidationError as error:
            wrong = error.errors()[0]
            raise UserError(
                f"tracker constants: {'.'.join(map(str, wrong['loc']))} = {wrong['input']!r}: {wrong['msg']}"
            ) from None


class LinkConfig(Constants):
    """What joins tracks once it is known how they go on. Similarities are cosines."""

    match: Share = 0.4  # above it two tracks are one
    keep: Share = 0.5  # above it a detection belongs to a track
    # What being one object size apart takes off the similarity of sightings in neighbouring frames, and how
    # fast this fades with the frames between them.
    nearness: Factor = 0.25
    fade: Factor = 0.35
    rounds: Count = 3


class TrackerConfig(Constants):
    """What turns frame queries into tracks. The defaults are IDOL's; `ookd tune` finds a model's own."""

    # The size at which frames are shown to the model; None: as they are.
    short_side: Annotated[int, Field(ge=32, le=LARGEST_SIDE)] | None = None

    # Which queries of a frame are looked at: the best class score a query needs, and the IoU above which the
    # weaker of two goes (by box: of one class only; by mask: of any class).
    select_score: Share = 0.1
    box_nms: Share = 0.9
    mask_nms: Share = 0.5

    # How queries become identities: by the best assignment to all remembered objects or to nobody
    # ("assignment"), by IDOL's choice among a "memory" of embeddings, by the best pairing with the last frame
    # ("consecutive"), or by what the model says itself ("slot"): which object a query holds or, where it does
    # not say that, the index of the query. Each reads those constants below that it names.
    associator: str = "memory"

    # Which remembered object a query is: one whose similarity is above `match`. It is a cosine, but for
    # "memory".
    match: Factor = 0.5
    # There it is similarity x scale, through a softmax over the memory averaged with one over the detections
    # ("both"), over the memory only, or none. Among several above `match` those seen in more frames are
    # preferred.
    similarity: Literal["dot", "cosine"] = "dot"
    scale: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    normalise: Literal["both", "memory", "none"] = "both"
    prefer_lasting: bool = True

    # What being one object size away from where the object should be takes off the similarity, up to `far`
    # object sizes, because objects leave and cameras jump. "assignment": which share of an object's speed it
    # is thought to keep.
    nearness: Factor = 0.0
    far: Annotated[float, Field(gt=0, le=1e6)] = 2.0
    motion: Share = 0.0

    # What the overlap (IoU) of a mask with the object's last one adds to the similarity: for detectors whose
    # embeddings were not trained to tell objects apart.
    overlap: Annotated[float, Field(ge=0)] = 0.0

    # How an object is remembered: by a mean of its last embeddings, weighted by score and newness ("recent"),
    # or by a moving average to which the newest adds `momentum`; for "assignment" by the mean over all its
    # frames, too, with a share `whole_track`; and for how many frames while it is not seen.
    memory: Literal["recent", "momentum"] = "recent"
    memory_length: Count = 3
    prefer_recent: bool = True
    whole_track: Share = 0.0
    momentum: Share = 0.8
    horizon: Annotated[int, Field(ge=1, le=10**6)] = 10

    # The score that begins a new object: while nothing is remembered, and otherwise.
    first_score: Share = 0.2
    new_score: Share = 0.2

    # How tracks are joined where the frames that follow are known.
    link: LinkConfig = LinkConfig()

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

    # Frames are resized to it; None: they keep their size.
    short_side: Annotated[int, Field(ge=1, le=LARGEST_SIDE)] | None = None
    window: Count = 48  # frames seen at once
    shared: Count = 8  # frames that a window shares with the one before
    tube_nms: Share = 0.6  # tube IoU above which the weaker of two queries goes, whatever its class
    join: Share = 0.3  # tube IoU on the shared frames from which two tracks are one
    every_class: bool = True  # report every class above `final_score`, or the best one only
    final_score: Share = 0.05
