"""The limits of the server, and how it refuses requests."""

from __future__ import annotations

from dataclasses import dataclass

from ookd.errors import UserError

FRAME_BYTES = 4 << 20  # of one image of a live stream
WAIT_SECONDS = 30.0  # for the next part of an upload, and for a client to read its answer
IDLE_SECONDS = 60.0  # that a connected stream may send no frame


class Refusal(UserError):
    """A request that is not served, with its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class ServeRules:
    """The limits of one server."""

    streams: int = 8  # live streams at a time
    uploads: int = 2  # uploads tracked at a time; others wait
    downloads: int = 2  # downloads made at a time; others wait
    videos: int = 20  # stored at a time; a new one replaces the oldest finished one
    upload_bytes: int = 2 << 30
    seconds: float = 600.0  # of an upload
    pixels: int = 4096 * 2304  # of a frame
    kept_frames: int = 1800  # of a live stream: the last ones
    resume_seconds: float = 60.0  # that a stream waits for a lost client
