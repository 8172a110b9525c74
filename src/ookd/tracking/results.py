"""The results of a whole video, collected frame by frame.

A few numbers per track stay in memory. Masks go as run lengths to a spool, which is in memory while it is
small and then a temporary file. Each record points to the track's previous one. So a video can be hours long.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ookd.config.tracker import OfflineConfig, TrackerConfig
from ookd.errors import UserError
from ookd.masks import Floats, Ints
from ookd.structures import Rle, TrackResult

# A track seen in fewer than MIN_FRAMES frames is dropped as noise once it misses MISSING frames in a row, but
# not in the first GRACE frames of the video. The numbers are the published ones.
MIN_FRAMES, MISSING, GRACE = 3, 2, 9
LEAST = np.float32(1e-7)  # smallest probability whose logarithm is taken

Mask = TypeVar("Mask")
Stored = TypeVar("Stored", contravariant=True)


class Store(Protocol[Stored]):
    """Stores the masks of tracks. A track knows only the place of its last one."""

    def append(self, previous: int, frame: int, mask: Stored, score: float) -> int:
        """The place of the new record. `previous` is the track's last one, -1 for its first."""


@dataclass(slots=True)
class History:
    """One track so far."""

    pooled: Floats  # [K] class scores over its frames: their sum or their maximum
    query: int  # query of its first detection; -1 if unknown
    frames: int  # how many
    last: int  # the last of them
    record: int  # place of its mask in the store


class Histories(Generic[Mask]):
    """The tracks of one video. The store decides what a mask is."""

    def __init__(self, config: TrackerConfig, store: Store[Mask]) -> None:
        self.config, self.store = config, store
        self.length = 0
        # [Q, K + 1] the sum of log probabilities of each query over all frames, "no object" last
        self._logits: Floats | None = None
        self._of: dict[int, History] = {}

    def add(
        self,
        ids: Ints,
        probs: Floats,
        masks: Sequence[Mask],
        query: Ints | None = None,
        everyone: Floats | None = None,
    ) -> None:
        """The next frame: ids [N], their class scores [N, K] in this frame, and their masks.

        To pool logits it also takes the query [N] of each and the class scores [Q, K] of all queries.
        """
        if self.config.pool == "logits":
            self._add_logits(everyone)
        queries = np.full(len(ids), -1) if query is None else query
        frame, self.length = self.length, self.length + 1
        pool = np.maximum if self.config.pool == "max" else np.add
        for id, prob, mask, slot in zip(ids.tolist(), probs, masks, queries.tolist(), strict=True):
            track, score = self._of.get(id), float(prob.max())
            if track is None:
                record = self.store.append(-1, frame, mask, score)
                self._of[id] = History(prob.copy(), slot, 1, frame, record)
            else:
                pool(track.pooled, prob, out=track.pooled)
                track.frames, track.last = track.frames + 1, frame
                track.record = self.store.append(track.record, frame, mask, score)
        if frame >= GRACE:
            noise = [
                id
                for id, track in self._of.items()
                if track.frames < MIN_FRAMES and frame - track.last >= MISSING
            ]
            for id in noise:  # if the tracker finds it again, it starts over
                del self._of[id]

    def __iter__(self) -> Iterator[tuple[History, list[tuple[int, float]]]]:
        """Each track with the (label, score) pairs it is reported under, if any."""
        for track in self._of.values():
            if classes := reported_classes(self._scores(track), self.config):
                yield track, classes

    def _add_logits(self, everyone: Floats | None) -> None:
        """A softmax drops only a constant of the logits, and the softmax of the mean drops it too."""
        if everyone is None:
            raise UserError(
                'pool "logits" needs all queries of a frame, which are not stored here; choose "mean"'
            )
        nothing = 1 - everyone.sum(1, keepdims=True)
        logits = np.log(np.maximum(np.concatenate([everyone, nothing], 1), LEAST))
        self._logits = logits if self._logits is None else self._logits + logits

    def _scores(self, track: History) -> Floats:
        """[K] the pooled class scores of a track."""
        if self.config.pool == "max":
            return track.pooled
        if self._logits is None:
            scores: Floats = track.pooled / np.float32(track.frames + self.config.doubt)
            return scores
        mean = self._logits[track.query] / self.length
        powers = np.exp(mean - mean.max())
        scores = powers[:-1] / powers.sum()
        return scores


def reported_classes(scores: NDArray[Any], config: TrackerConfig | OfflineConfig) -> list[tuple[int, float]]:
    """The (label, score) pairs that a track with these class scores [K] is reported under."""
    labels = np.flatnonzero(scores > config.final_score) if config.every_class else [scores.argmax()]
    return [(int(label), float(scores[label])) for label in labels]


class Spool:
    """Run lengths in a temporary file, which stays in memory while it is small.

    Each record points to the one before it of the same track.
    """

    # place of the previous record, frame, score, height, width, length of the run lengths
    _HEAD = struct.Struct("<qqdIII")
    _SMALL = 1 << 20

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=self._SMALL)  # noqa: SIM115 - lives as long as this

    def append(self, previous: int, frame: int, mask: Rle, score: float) -> int:
        counts = mask["counts"].encode()
        height, width = mask["size"]
        try:
            at = self._file.seek(0, 2)
            self._file.write(self._HEAD.pack(previous, frame, score, height, width, len(counts)) + counts)
        except OSError as error:
            raise UserError(f"masks cannot be kept on disk: {error.strerror or error}") from None
        return at

    def chain(self, record: int) -> Iterator[tuple[int, Rle, float]]:
        """(frame, mask, score) from this record back to the track's first."""
        while record >= 0:
            self._file.seek(record)
            record, frame, score, height, width, length = self._HEAD.unpack(self._file.read(self._HEAD.size))
            yield frame, {"size": [height, width], "counts": self._file.read(length).decode()}, score

    def track(self, record: int, length: int) -> tuple[list[Rle | None], list[float | None]]:
        """The mask and the score in each of `length` frames of the track whose last record this is."""
        masks: list[Rle | None] = [None] * length
        scores: list[float | None] = [None] * length
        for frame, mask, score in self.chain(record):
            masks[frame], scores[frame] = mask, score
        return masks, scores


class VideoResults:
    """The benchmark's results of one video."""

    def __init__(self, config: TrackerConfig) -> None:
        self._spool = Spool()
        self._histories = Histories(config, self._spool)

    def add(
        self,
        ids: Ints,
        probs: Floats,
        masks: Sequence[Rle],
        query: Ints | None = None,
        everyone: Floats | None = None,
    ) -> None:
        """The next frame, as `Histories.add` takes it."""
        self._histories.add(ids, probs, masks, query, everyone)

    def tracks(self, video_id: int, category_ids: Sequence[int | None]) -> Iterator[TrackResult]:
        """One result per track and class, one track in memory at a time.

        `category_ids` are the data set's numbers of the K classes, None for one that it does not know.
        """
        for track, classes in self._histories:
            masks, scores = self._spool.track(track.record, self._histories.length)
            for label, score in classes:
                category = category_ids[label]
                if category is not None:
                    yield TrackResult(video_id, category, score, masks, scores)
