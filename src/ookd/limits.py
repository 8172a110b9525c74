"""How much a file may make this program read, unpack or draw.

Real data stays far below these limits; a damaged or hostile file would fill the memory. Each limit can be
raised by an environment variable, which the message names.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from ookd.errors import UserError


@dataclass(frozen=True, slots=True)
class Limit:
    """The most of something that is accepted."""

    name: str
    usual: int
    what: str  # in messages, after a number

    @property
    def variable(self) -> str:
        return f"OOKD_MAX_{self.name.upper()}"

    @property
    def most(self) -> int:
        given = os.environ.get(self.variable)
        if given is None:
            return self.usual
        try:
            return _whole(given)
        except (ValueError, OverflowError):
            raise UserError(f"{self.variable}={given:.40}: must be a number of {self.what}") from None

    def exceeded(self, count: float) -> str | None:
        """What is wrong with this number; None if nothing is."""
        if count <= self.most:
            return None
        return f"more than {self.most} {self.what}; if that is right, raise the limit with {self.variable}"

    def check(self, count: float, where: object) -> None:
        """Raise if there are too many at a place."""
        if (fault := self.exceeded(count)) is not None:
            raise UserError(f"{where}: {fault}")


def _whole(text: str) -> int:
    """A number that may be written as 1e9."""
    number = int(float(text))
    if number < 0:
        raise ValueError
    return number


FILE = Limit("file", 4 << 30, "bytes in a file")
WEIGHTS = Limit("weights", 64 << 30, "bytes in a file of weights")
SETTINGS = Limit("settings", 64 << 20, "bytes in a file of settings")
MEMBERS = Limit("members", 2_000_000, "files in an archive")
MEMBER = Limit("member", 256 << 20, "bytes in an unpacked file of an archive")
UNPACKED = Limit("unpacked", 200, "times the size of its archive when unpacked")
YAML_VALUES = Limit("yaml_values", 100_000, "values in a YAML file, counting repeated ones")
PIXELS = Limit("pixels", 2**28, "pixels in a frame")
SIDE = Limit("side", 2**16, "pixels along a side of a frame")
OUTLINE = Limit("outline", 2_000_000, "pixels of polygon edges in a mask")
LABELS = Limit("labels", 2_000, "values in a label image")
CLASSES = Limit("classes", 20_000, "classes")
CLASS_NAME = Limit("class_name", 1_000, "characters in the name of a class")
FRAMES = Limit("frames", 5_000_000, "frames in a data set")
VIDEOS = Limit("videos", 5_000_000, "videos in a list")
TRACKS = Limit("tracks", 5_000, "tracks in a video")
TRACK_FRAMES = Limit("track_frames", 20_000_000, "frames of tracks in a video, seen or not")
MASK_PIXELS = Limit("mask_pixels", 4 << 30, "pixels of masks at once")
PREDICTIONS = Limit("predictions", 10_000, "predictions for a video")


def check_environment() -> None:
    """Raise for a variable that holds no number."""
    for limit in list(globals().values()):
        if isinstance(limit, Limit):
            limit.exceeded(0)
