"""A bank of objects cut out of videos, from which rare classes are drawn more often than they occur.

Nothing is read in advance. Labels tell which video has which class; the frames of a track are read when it is
drawn. Recently read frames are kept, which only changes the speed: draws depend on the generator alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ookd.clips.sources import ClipSource
from ookd.clips.warps import Size
from ookd.errors import UserError

MARGIN = 2  # pixels around a cut-out, for resampling up to its edge
_ATTEMPTS = 4  # to find a track of the drawn class that is visible long enough


@dataclass(frozen=True, slots=True)
class Piece:
    """An object in one frame: the smallest box around it, and where that box lies in its frame."""

    image: NDArray[np.uint8]  # [h + 2 MARGIN, w + 2 MARGIN, 3]
    mask: NDArray[np.bool_]  # [h, w]
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class CutOut:
    """Some frames of one track."""

    label: int
    pieces: list[Piece | None]  # T; None where the object is not visible
    size: Size  # of the frames it comes from
    video: str
    track: int


def class_probabilities(counts: Sequence[int], threshold: float, gamma: float) -> NDArray[np.float64]:
    """[K] the probability of each class, proportional to r(c) = max(1, (threshold / f(c))^gamma).

    f(c) is the share of class c among all tracks. Classes without tracks are never drawn.
    """
    tracks = np.array(counts, np.float64)
    seen = tracks > 0
    if not seen.any():
        raise UserError("Minor-Paste needs annotated objects to cut out; the data has none")
    factor = np.zeros(len(tracks))
    factor[seen] = np.maximum(1, (threshold * tracks.sum() / tracks[seen]) ** gamma)
    return np.asarray(factor / factor.sum())


class CutOutBank:
    """Cut-outs of a source's tracks; classes are drawn with `probabilities` [K]."""

    def __init__(
        self, source: ClipSource, threshold: float = 1.0, gamma: float = 0.5, megabytes: int = 128
    ) -> None:
        self.source = source
        self._tracks: list[list[int]] = [[] for _ in source.names]  # label -> its video, once for each track
        for i in range(len(source)):
            for label in source.labels(i):
                self._tracks[label].append(i)
        self.probabilities = class_probabilities([len(videos) for videos in self._tracks], threshold, gamma)
        self._frames = _RecentFrames(source, megabytes << 20)

    def draw(
        self, times: NDArray[np.int64], rng: np.random.Generator, without: Collection[str] = ()
    ) -> CutOut | None:
        """Draw a class by its probability, then one of its tracks, at frames as far apart as `times`.

        The track is visible in at least half of them, and not in a video of `without`. None if none is found.
        """
        label = int(rng.choice(len(self.probabilities), p=self.probabilities))
        for _ in range(_ATTEMPTS):
            i = self._tracks[label][rng.integers(len(self._tracks[label]))]
            length = self.source.video_length(i)
            start = rng.integers(max(1, length - int(times.max() - times.min())))
            shots = self._frames.read(i, _there_and_back(start + times - times.min(), length))
            seen = [track for shot in shots for track, (its, _) in shot.pieces.items() if its == label]
            tracks = [track for track in sorted(set(seen)) if 2 * seen.count(track) >= len(times)]
            pick = rng.random()
            if tracks and shots[0].video not in without:
                track = tracks[int(pick * len(tracks))]
                pieces = [shot.pieces[track][1] if track in shot.pieces else None for shot in shots]
                return CutOut(label, pieces, shots[0].size, shots[0].video, track)
        return None


def _there_and_back(moments: NDArray[np.int64], length: int) -> list[int]:
    """Frame numbers for times that may lie beyond the end, where the video runs backwards, and so on."""
    period = max(1, 2 * (length - 1))
    return [int(min(moment % period, period - moment % period)) for moment in moments]


@dataclass(frozen=True, slots=True)
class _Shot:
    """The objects that can be cut out of one frame."""

    pieces: dict[int, tuple[int, Piece]]  # track -> label, piece
    size: Size
    video: str

    @property
    def bytes(self) -> int:
        return sum(piece.image.nbytes + piece.mask.nbytes for _, piece in self.pieces.values())


class _RecentFrames:
    """Reads frames and cuts out their objects; keeps the frames used last."""

    def __init__(self, source: ClipSource, most_bytes: int) -> None:
        self._source = source
        self._most = most_bytes
        self._kept: OrderedDict[tuple[int, int], _Shot] = OrderedDict()
        self._bytes = 0

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": OrderedDict(), "_bytes": 0}

    def read(self, i: int, frames: list[int]) -> list[_Shot]:
        missing = sorted({frame for frame in frames if (i, frame) not in self._kept})
        shots = {frame: self._kept[i, frame] for frame in frames if (i, frame) in self._kept}
        if missing:
            clip = self._source.clip(i, missing)
            for image, masks, frame in zip(clip.images, clip.masks, missing, strict=True):
                pieces = {
                    int(track): (int(label), _cut(image, mask))
                    for track, label, mask in zip(clip.ids, clip.labels, masks, strict=True)
                    if mask.any()
                }
                shots[frame] = _Shot(pieces, (image.shape[0], image.shape[1]), clip.video)
                self._bytes += shots[frame].bytes
        for frame in frames:
            self._kept[i, frame] = shots[frame]
            self._kept.move_to_end((i, frame))
        while self._bytes > self._most and self._kept:
            self._bytes -= self._kept.popitem(last=False)[1].bytes
        return [shots[frame] for frame in frames]


def _cut(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> Piece:
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    x0, x1, y0, y1 = int(columns[0]), int(columns[-1]) + 1, int(rows[0]), int(rows[-1]) + 1
    height, width = mask.shape
    top, left = max(0, y0 - MARGIN), max(0, x0 - MARGIN)
    bottom, right = min(height, y1 + MARGIN), min(width, x1 + MARGIN)
    missing = [(top - y0 + MARGIN, y1 + MARGIN - bottom), (left - x0 + MARGIN, x1 + MARGIN - right), (0, 0)]
    around = np.pad(image[top:bottom, left:right], missing, mode="edge")
    return Piece(around, mask[y0:y1, x0:x1].copy(), x0, y0)
