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
        """A copy with some values changed; "link.match" is the `match` of `link`."""
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
    """The linker joins tracks with knowledge of later frames. Similarities are cosines."""

    match: Share = 0.4  # similarity above which two tracks are joined
    keep: Share = 0.5  # similarity above which a detection belongs to a track
    # Penalty for each object size between observations in neighbouring frames, and how fast it fades with the
    # number of frames between them.
    nearness: Factor = 0.25
    fade: Factor = 0.35
    rounds: Count = 3


class TrackerConfig(Constants):
    """Constants that turn frame queries into tracks.

    The defaults are IDOL's; `ookd tune` finds a model's own.
    """

    # Short side of the frames that the model sees; None: unchanged.
    short_side: Annotated[int, Field(ge=32, le=LARGEST_SIDE)] | None = None

    # Selection of a frame's queries: the least best-class score, and the IoU above which the lower-scored of
    # two queries is dropped (boxes: within a class; masks: across classes).
    select_score: Share = 0.1
    box_nms: Share = 0.9
    mask_nms: Share = 0.5

    # How queries become identities. "assignment": the best assignment to all remembered objects or to none.
    # "memory": IDOL's choice among a memory of embeddings. "consecutive": the best pairing with the last
    # frame. "slot": the object that the model reports for a query, or else the query's index.
    associator: str = "memory"

    # Least similarity of a query and its object: a cosine, except for "memory".
    match: Factor = 0.5
    # "memory": similarity x scale, then a softmax over the memory averaged with one over the detections
    # ("both"), over the memory only, or none. Among several objects above `match`, those seen in more frames
    # are preferred.
    similarity: Literal["dot", "cosine"] = "dot"
    scale: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    normalise: Literal["both", "memory", "none"] = "both"
    prefer_lasting: bool = True

    # Penalty for each object size between a query and the object's expected position, up to `far` object
    # sizes, because objects leave and cameras jump. "assignment": the share of its speed that an object is
    # assumed to keep.
    nearness: Factor = 0.0
    far: Annotated[float, Field(gt=0, le=1e6)] = 2.0
    motion: Share = 0.0

    # "assignment": penalty for a query whose class scores differ from the object's, and for each doubling or
    # halving of its size.
    other_class: Factor = 0.0
    growth: Factor = 0.0

    # Weight of the IoU of a mask with the object's last one: for detectors whose embeddings were not trained
    # to tell objects apart.
    overlap: Annotated[float, Field(ge=0)] = 0.0

    # How an object is remembered: a mean of its last embeddings, weighted by score and recency ("recent"), or
    # a moving average in which the newest has weight `momentum`. "assignment" also uses the mean over all its
    # frames, with a share `whole_track`. An object that is not seen for `horizon` frames is forgotten.
    memory: Literal["recent", "momentum"] = "recent"
    memory_length: Count = 3
    prefer_recent: bool = True
    whole_track: Share = 0.0
    momentum: Share = 0.8
    horizon: Annotated[int, Field(ge=1, le=10**6)] = 10

    # Least score of a new object: while nothing is remembered, and otherwise.
    first_score: Share = 0.2
    new_score: Share = 0.2

    # How tracks are joined with a delay or offline.
    link: LinkConfig = LinkConfig()

    # Results of a whole video: how class scores are pooled over a track's frames, and whether every class
    # above `final_score` is reported or only the best one. "logits" is the softmax of a query's mean logits
    # over all frames of the video, visible or not, as VidEoMT publishes; it needs the associator "slot". To a
    # "mean", `doubt` adds so many frames with scores of 0: what was seen briefly ranks lower.
    pool: Literal["mean", "max", "logits"] = "mean"
    doubt: Factor = 0.0
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
    """Constants that turn clip queries into tracks."""

    # Frames are resized to it; None: they keep their size.
    short_side: Annotated[int, Field(ge=1, le=LARGEST_SIDE)] | None = None
    window: Count = 48  # frames seen at once
    shared: Count = 8  # frames that a window shares with the one before
    tube_nms: Share = 0.6  # tube IoU above which the lower-scored of two queries is dropped, across classes
    join: Share = 0.3  # least tube IoU on the shared frames of joined tracks
    every_class: bool = True  # report every class above `final_score`, or only the best one
    final_score: Share = 0.05
