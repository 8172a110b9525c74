"""The answers of the HTTP API, for its OpenAPI page and for type checkers."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict  # pydantic requires it before Python 3.12

State = Literal["waiting", "running", "done", "failed"]


class ModelInfo(TypedDict):
    name: str
    classes: list[str]
    score: float
    licence: str
    trained_on: str


class VideoInfo(TypedDict):
    id: str
    name: str
    model: str
    live: bool
    state: State
    reason: str
    width: int
    height: int
    fps: float
    first_frame: int
    frames: int
    length: int | None
    tracks: int


TrackInfo = TypedDict(
    "TrackInfo",
    {
        "id": int,
        "label": int,
        "class": str,
        "score": float,
        "first_frame": int,
        "last_frame": int,
        "first_seconds": float,
        "last_seconds": float,
        "frames": int,
    },
)


class MaskInfo(TypedDict):
    """COCO run lengths of [height, width]."""

    size: list[int]
    counts: str


ObjectInfo = TypedDict(
    "ObjectInfo",
    {"id": int, "label": int, "class": str, "score": float, "box_xyxy": list[float], "rle": MaskInfo},
)


class FrameInfo(TypedDict):
    frame: int
    seconds: float
    objects: list[ObjectInfo]


class FramesInfo(TypedDict):
    video: VideoInfo
    frames: list[FrameInfo]


class HealthInfo(TypedDict):
    status: str
    version: str
    models: list[str]
