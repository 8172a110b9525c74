"""How much the server takes from whoever asks, and how it says no."""

from __future__ import annotations

from dataclasses import dataclass

from ookd.errors import UserError

FRAME_BYTES = 4 << 20  # of one picture that a live stream sends
WAIT_SECONDS = 30.0  # for the next part of an upload, and for a client to take what it asked for
IDLE_SECONDS = 60.0  # that a connected stream may stay without a frame


class Refusal(UserError):
    """A request that is not served, with its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class ServeRules:
    """The limits of one server."""

    streams: int = 8  # live ones at a time
    uploads: int = 2  # recordings that are tracked at a time; others wait
    downloads: int = 2  # that are made at a time; others wait
    videos: int = 20  # kept at a time; the oldest that is done makes room
    upload_bytes: int = 2 << 30
    seconds: float = 600.0  # of a recording
    pixels: int = 4096 * 2304  # of a frame
    kept_frames: int = 1800  # of a live stream: the last ones
    resume_seconds: float = 60.0  # that a stream is held for a client that went away
