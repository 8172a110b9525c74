"""The benchmark's answer about a whole video, put together frame by frame.

What stays in memory is a few numbers a track; masks go as run lengths to a spool (in memory while small, then
a temporary file), where each record points to the track's previous one. So a video may be hours long.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ookd.structures import Rle, TrackResult
from ookd.tracking.config import TrackerConfig
from ookd.tracking.select import Floats, Ints

# A track seen in fewer than MIN_FRAMES frames ends as noise once it misses MISSING frames in a row; nothing
# is judged in the first GRACE frames. The published numbers.
MIN_FRAMES, MISSING, GRACE = 3, 2, 9
_HEAD = struct.Struct(
    "<qqIII"
)  # where the previous record is (-1: none), frame, height, width, bytes of counts
_IN_MEMORY = 16 << 20


@dataclass(slots=True)
class _History:
    """What is known of one track so far."""

    pooled: Floats  # [K] class scores, summed or their maximum
    frames: int  # how many frames it was seen in
    last: int  # the last of them
    record: int  # where its last mask lies in the spool


class VideoResults:
    """Collects what a tracker says about one video."""

    def __init__(self, config: TrackerConfig) -> None:
        self.config = config
        self.length = 0
        self._tracks: dict[int, _History] = {}
        self._spool = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - lives as long as this

    def add(self, ids: Ints, probs: Floats, masks: Sequence[Rle]) -> None:
        """The next frame: ids [N], their class scores [N, K] in this frame, and their masks."""
        frame, self.length = self.length, self.length + 1
        for id, prob, mask in zip(ids.tolist(), probs, masks, strict=True):
            track = self._tracks.get(id)
            record = self._write(-1 if track is None else track.record, frame, mask)
            if track is None:
                self._tracks[id] = _History(prob.astype(np.float32), 1, frame, record)
                continue
            track.pooled = (
                track.pooled + prob if self.config.pool == "mean" else np.maximum(track.pooled, prob)
            )
            track.frames, track.last, track.record = track.frames + 1, frame, record
        if frame >= GRACE:
            noise = [
                id
                for id, track in self._tracks.items()
                if track.frames < MIN_FRAMES and frame - track.last >= MISSING
            ]
            for id in noise:  # should the tracker meet it again, it starts afresh
                del self._tracks[id]

    def tracks(self, video_id: int, category_ids: Sequence[int]) -> Iterator[TrackResult]:
        """One result a track and class; `category_ids` are the data set's numbers of the K classes."""
        for track in self._tracks.values():
            scores = track.pooled / track.frames if self.config.pool == "mean" else track.pooled
            enough = scores > self.config.final_score
            labels = np.flatnonzero(enough).tolist() if self.config.every_class else [int(scores.argmax())]
            if labels:
                masks = self._read(track.record)
            for label in labels:
                yield TrackResult(video_id, category_ids[label], float(scores[label]), masks)

    def _write(self, previous: int, frame: int, mask: Rle) -> int:
        counts = mask["counts"].encode()
        at = self._spool.seek(0, 2)
        self._spool.write(_HEAD.pack(previous, frame, *mask["size"], len(counts)) + counts)
        return at

    def _read(self, record: int) -> list[Rle | None]:
        masks: list[Rle | None] = [None] * self.length
        while record >= 0:
            self._spool.seek(record)
            record, frame, height, width, length = _HEAD.unpack(self._spool.read(_HEAD.size))
            masks[frame] = {"size": [height, width], "counts": self._spool.read(length).decode()}
        return masks
