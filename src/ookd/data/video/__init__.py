"""Read any source as a stream of RGB frames, and write H.264, with constant memory at any length."""

from ookd.data.video.opening import open_source
from ookd.data.video.seeking import read_frames
from ookd.data.video.source import Frame, FrameSource
from ookd.data.video.writer import VideoWriter

__all__ = ["Frame", "FrameSource", "VideoWriter", "open_source", "read_frames"]
