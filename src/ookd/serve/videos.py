"""One video of the server: its state, its frames, and a summary of each track."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
from PIL import Image as Pillow

from ookd import limits
from ookd.data import rle
from ookd.serve.answers import State, TrackInfo, VideoInfo
from ookd.serve.spool import FrameSpool
from ookd.structures import FrameResult
from ookd.tracking.frame_model import Image
from ookd.tracking.sinks.sink import rows

THUMBNAIL = 96  # pixels along a side
PICTURE = 1280  # pixels along the longer side of a stored image
QUALITY = 80
CLEARER = 1.25  # how much better a view of an object must be to replace its thumbnail


@dataclass(slots=True)
class TrackSummary:
    """One object over the frames so far."""

    id: int
    label: int
    score: float  # mean over its frames so far
    first_frame: int
    last_frame: int
    first_seconds: float
    last_seconds: float
    frames: int = 0
    thumbnail: bytes = b""  # JPEG
    clearness: float = 0.0  # of the thumbnail

    def about(self, names: Sequence[str]) -> TrackInfo:
        return {
            "id": self.id,
            "label": self.label,
            "class": names[self.label] if self.label < len(names) else f"class {self.label}",
            "score": round(self.score, 4),
            "first_frame": self.first_frame,
            "last_frame": self.last_frame,
            "first_seconds": round(self.first_seconds, 3),
            "last_seconds": round(self.last_seconds, 3),
            "frames": self.frames,
        }


class TrackedVideo:
    """One video, recorded or live. Its tracker adds frames; others can read at any time."""

    def __init__(
        self,
        id: str,
        name: str,
        model: str,
        names: Sequence[str],
        folder: Path,
        *,
        live: bool = False,
        keep: int | None = None,
    ) -> None:
        self.id, self.name, self.model, self.names, self.live = id, name, model, names, live
        self.folder = folder
        self.state: State = "waiting"
        self.reason = ""  # why it failed or ended early
        self.height = self.width = 0
        self.fps = 0.0
        self.length: int | None = None  # frames, if the file says so
        self.stopping = threading.Event()
        folder.mkdir()
        self.spool = FrameSpool(folder / "frames", keep)
        self._tracks: dict[int, TrackSummary] = {}
        self._lock = threading.Lock()

    def add(self, result: FrameResult, picture: bytes) -> bytes:
        """Add the next frame. Returns its answer as JSON."""
        answer = orjson.dumps(
            {
                "frame": result.index,
                "seconds": result.seconds,
                "objects": [
                    {
                        "id": row.id,
                        "label": row.label,
                        "class": row.name,
                        "score": row.score,
                        "box_xyxy": row.box,
                        "rle": mask,
                    }
                    for row, mask in zip(rows(result), rle.encode_many(result.masks), strict=True)
                ],
            }
        )
        self.spool.append(answer, picture)
        with self._lock:
            self._summarise(result)
        return answer

    def tracks(self) -> list[TrackInfo]:
        """All tracks, in order of appearance."""
        with self._lock:
            return [track.about(self.names) for track in self._tracks.values()]

    def thumbnail(self, track: int) -> bytes | None:
        with self._lock:
            found = self._tracks.get(track)
            return None if found is None else found.thumbnail

    def about(self) -> VideoInfo:
        return {
            "id": self.id,
            "name": self.name,
            "model": self.model,
            "live": self.live,
            "state": self.state,
            "reason": self.reason,
            "width": self.width,
            "height": self.height,
            "fps": round(self.fps, 3),
            "first_frame": self.spool.first,
            "frames": self.spool.stop,
            "length": self.length,
            "tracks": len(self._tracks),
        }

    def _summarise(self, result: FrameResult) -> None:
        seconds = result.seconds or 0.0
        for row in rows(result):
            track = self._tracks.get(row.id)
            if track is None:
                if len(self._tracks) >= limits.TRACKS.most:
                    oldest = min(self._tracks.values(), key=lambda one: one.last_frame)
                    del self._tracks[oldest.id]
                track = TrackSummary(row.id, row.label, 0, result.index, 0, seconds, 0)
                self._tracks[row.id] = track
            track.label, track.score, track.frames = row.label, row.score, track.frames + 1
            track.last_frame, track.last_seconds = result.index, seconds
            left, top, right, bottom = row.box
            clearness = row.score * ((right - left) * (bottom - top)) ** 0.5
            if result.image is not None and clearness > CLEARER * track.clearness:
                track.thumbnail, track.clearness = thumbnail(result.image, row.box), clearness
        first = self.spool.first
        if first and not result.index % 100:  # forget tracks whose frames are no longer stored
            self._tracks = {id: track for id, track in self._tracks.items() if track.last_frame >= first}


def thumbnail(image: Image, box: Sequence[float]) -> bytes:
    """A square of the image around a box, as JPEG."""
    height, width = image.shape[:2]
    left, top, right, bottom = box
    side = min(1.15 * max(right - left, bottom - top, 8), height, width)
    x = min(max((left + right - side) / 2, 0), width - side)
    y = min(max((top + bottom - side) / 2, 0), height - side)
    crop = np.ascontiguousarray(image[int(y) : int(y + side), int(x) : int(x + side)])
    return jpeg(np.asarray(Pillow.fromarray(crop).resize((THUMBNAIL, THUMBNAIL))))


def jpeg(image: Image) -> bytes:
    """An image for the page: not larger than a screen needs."""
    picture = Pillow.fromarray(image)
    if max(picture.size) > PICTURE:
        picture.thumbnail((PICTURE, PICTURE), Pillow.Resampling.BILINEAR)
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=QUALITY)
    return data.getvalue()
