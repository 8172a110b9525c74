"""Uploaded videos: opened safely and tracked to their end, one frame in flight."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from ookd.data.video.container import ContainerSource
from ookd.data.video.decoding import open_container, open_decoded
from ookd.data.video.source import Span
from ookd.errors import UserError
from ookd.serve.batching import ModelStream
from ookd.serve.rules import Refusal, ServeRules
from ookd.serve.videos import TrackedVideo, jpeg

# The containers that FFmpeg may read. Playlists and scripts, which can name other files or hosts, are not
# among them, and nothing but the file itself is opened.
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,ogg,gif,asf"
CAREFULLY: dict[str, Any] = {"options": {"format_whitelist": FORMATS, "protocol_whitelist": "file"}}
MISSING = 2  # frames that a complete video may lack: containers round


def open_upload(path: Path, rules: ServeRules) -> ContainerSource:
    """The frames of an uploaded file, whatever its name. Refused if it is not a video or too large."""
    try:
        container, stream = open_container(path, "the upload", **CAREFULLY)
    except UserError:
        raise Refusal(
            415, "the upload is not a video of a known format, or its beginning is damaged"
        ) from None
    with container:
        if stream.width * stream.height > rules.pixels:
            raise Refusal(413, f"frames of {stream.width}x{stream.height} are too large")
        try:
            opened = open_decoded(path, "the upload", **CAREFULLY)
        except UserError as error:
            raise Refusal(415, str(error)) from None
    source = ContainerSource(path, opened, "video", Span(), **CAREFULLY)
    if source.height * source.width > rules.pixels:
        raise Refusal(413, f"frames of {source.width}x{source.height} are too large")
    if source.length is not None and source.length / source.fps > rules.seconds + 1:
        raise Refusal(413, f"the video is longer than {rules.seconds:g} seconds; cut it")
    return source


def track_upload(
    video: TrackedVideo, source: ContainerSource, stream: ModelStream, rules: ServeRules
) -> None:
    """Track an upload to its end, or until it is stopped."""
    video.state = "running"
    try:
        with closing(source.frames()) as frames:
            for frame in frames:
                if video.stopping.is_set():
                    return
                if frame.seconds > rules.seconds:
                    video.reason = f"only the first {rules.seconds:g} seconds were tracked"
                    break
                result = stream.step(frame.image)
                result.index, result.seconds = frame.index, frame.seconds
                video.add(result, jpeg(frame.image))
        done, length = video.spool.stop, source.length
        if not video.reason and length and done < length - MISSING:
            video.reason = f"damaged or cut off: {done} of {length} frames could be read"
        video.state = "done"
    except Exception as error:
        video.state, video.reason = "failed", " ".join(str(error).split())[:300]
    finally:
        stream.release()
