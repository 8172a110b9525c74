"""Identities with knowledge of the future.

The online tracker starts. Then two steps alternate a few times. Tracks that share no frame are joined, the
most similar first. And the detections of every frame are assigned again, now to tracks described by all their
frames, with positions known before and after. Frames that were already decided take part through the
tracker's memory of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ookd.config.tracker import TrackerConfig
from ookd.masks import Floats, Ints
from ookd.tracking.associators import make_associator
from ookd.tracking.associators.assignment import AssignmentAssociator, TrackMemory
from ookd.tracking.associators.associator import Memory
from ookd.tracking.associators.looks import best_pairs, distance, unit
from ookd.tracking.associators.ranges import Between, Range
from ookd.tracking.select import DetectionFeatures

# where `ookd tune` looks for good constants
RANGES: Mapping[str, Range] = {
    "link.match": Between(0.2, 0.95),
    "link.keep": Between(0.05, 0.9),
    "link.nearness": Between(0.0, 0.3),
    "link.fade": Between(0.0, 3.0),
}


class Linker:
    """The ids of each frame, decided once the next `ahead` frames are known; None: all frames."""

    def __init__(self, config: TrackerConfig, ahead: int | None) -> None:
        self.config, self.ahead = config, ahead
        self._online = make_associator(config)
        self._memory: Memory | None = None
        self._looks = AssignmentAssociator(config)
        self.decided: TrackMemory | None = None  # what is remembered of the frames whose ids are decided
        self._waiting: list[DetectionFeatures] = []

    def add(self, detections: DetectionFeatures) -> Iterator[Ints]:
        """Take the next frame; return the ids of the oldest waiting frame, if it has waited long enough."""
        self._waiting.append(detections)
        if self.ahead is not None and len(self._waiting) > self.ahead:
            yield self._decide(self._linked()[0], {})

    def finish(self) -> Iterator[Ints]:
        """The video has ended: the ids of all frames that still wait."""
        numbers: dict[int, int] = {}
        for ids in self._linked():
            yield self._decide(ids, numbers)

    def _linked(self) -> list[Ints]:
        """The ids of the frames that wait; those of new objects are negative, from -2 down."""
        memory = self._memory
        known, ids = 0 if memory is None else memory.next_id, []
        for detections in self._waiting:
            found, memory = self._online.step(memory, detections)
            ids.append(np.where(found >= known, -2 - found, found))
        return ids if self.ahead == 0 else link(self._waiting, ids, self.decided, self.config)

    def _decide(self, ids: Ints, numbers: dict[int, int]) -> Ints:
        """The final ids of the oldest frame. `numbers` has those of new objects so far."""
        detections = self._waiting.pop(0)
        if self._memory is None or self.decided is None:
            classes, channels = detections.probs.shape[1], detections.embeds.shape[1]
            self._memory = self._online.begin(classes, channels)
            self.decided = self._looks.begin(classes, channels)
        new = [id for id in ids.tolist() if id < -1 and id not in numbers]
        numbers.update(zip(new, count(self.decided.next_id), strict=False))
        ids = np.array([numbers.get(id, id) for id in ids.tolist()], np.int64)
        self._memory = self._online.remember(self._memory, ids, detections)
        self.decided = self._looks.remember(self.decided, ids, detections)
        return ids


def link(
    frames: Sequence[DetectionFeatures],
    ids: Sequence[Ints],
    before: TrackMemory | None,
    config: TrackerConfig,
) -> list[Ints]:
    """Better ids for consecutive frames, from those of an online tracker and its memory `before` them.

    An id from before stays or is dropped; -1 is no object.
    """
    ids = list(ids)
    for _ in range(config.link.rounds):
        ids = _Tracks(frames, ids, before, config).joined()
        ids = _Tracks(frames, ids, before, config).assigned()
    return _Tracks(frames, ids, before, config).joined()


class _Tracks:
    """K tracks over C columns: the first column is the past, the others are the T frames."""

    def __init__(
        self,
        frames: Sequence[DetectionFeatures],
        ids: Sequence[Ints],
        before: TrackMemory | None,
        config: TrackerConfig,
    ) -> None:
        self.frames, self.given, self.config = frames, ids, config
        found = np.concatenate([np.zeros(0, np.int64), *ids])
        past = np.zeros(0, np.int64) if before is None else before.ids
        self.ids = np.union1d(found[found != -1], past)
        columns, channels = len(frames) + 1, frames[0].embeds.shape[1] if frames else 0
        self.looks = [unit(frame.embeds) for frame in frames]
        self.sums = np.zeros((len(self.ids), channels), np.float32)
        self.times = np.full((len(self.ids), columns), np.nan)  # NaN: not seen
        self.places = np.zeros((len(self.ids), columns, 3), np.float32)
        if before is not None:
            rows = np.searchsorted(self.ids, past)
            self.sums[rows], self.places[rows, 0] = before.whole, before.places
            self.times[rows, 0] = before.last - before.frame
        for t, (frame, given) in enumerate(zip(frames, ids, strict=True)):
            on = given != -1
            rows = np.searchsorted(self.ids, given[on])
            self.sums[rows] += frame.scores[on, None] * self.looks[t][on]
            self.times[rows, t + 1], self.places[rows, t + 1] = t, frame.places[on]

    def joined(self) -> list[Ints]:
        """Ids after joining tracks that share no column, while two of them are similar enough."""
        known = self.ids.copy()  # the current id of each track
        alike = np.stack([self._affinity(k) for k in range(len(known))]) if len(known) else np.zeros((0, 0))
        while alike.size:
            pair = map(int, np.unravel_index(alike.argmax(), alike.shape))
            a, b = sorted(pair, key=lambda k: -self.ids[k])  # an id from before stays
            if alike[a, b] <= self.config.link.match:
                break
            seen = ~np.isnan(self.times[b])
            self.times[a, seen], self.places[a, seen] = self.times[b, seen], self.places[b, seen]
            self.sums[a] += self.sums[b]
            self.times[b], self.sums[b] = np.nan, 0
            known[known == known[b]] = known[a]
            alike[b], alike[:, b] = -np.inf, -np.inf
            alike[a] = alike[:, a] = self._affinity(a)
        named = np.concatenate([known, [-1]])  # the last one is for detections without a track
        rows = [np.where(given == -1, -1, np.searchsorted(self.ids, given)) for given in self.given]
        return [named[row] for row in rows]

    def _affinity(self, k: int) -> Floats:
        """Similarity of track k and each other track [K]; -inf where they share a column."""
        alike: Floats = unit(self.sums) @ unit(self.sums[k : k + 1])[0]
        seen, own = ~np.isnan(self.times), np.flatnonzero(~np.isnan(self.times[k]))
        shared, empty = seen[:, own].any(1), ~seen.any(1)
        if not len(own) or (shared | empty).all():
            return np.full(len(alike), -np.inf, np.float32)
        # the closest observations of the pair: columns `mine` and `theirs`
        after = np.searchsorted(self.times[k, own], self.times).clip(0, len(own) - 1)  # [K, C]
        mine = own[np.stack([(after - 1).clip(0), after])]  # [2, K, C]
        apart = np.abs(self.times[k, mine] - self.times)
        mine = np.where(apart[0] <= apart[1], *mine)
        gaps = np.where(seen, apart.min(0), np.inf)
        theirs = gaps.argmin(1)[:, None]
        mine, gap = (np.take_along_axis(array, theirs, 1)[:, 0] for array in (mine, gaps))
        there = np.take_along_axis(self.places, theirs[..., None], 1)[:, 0]
        alike = alike - self._strangeness(self.places[k, mine], there, gap)
        alike[shared | empty] = -np.inf
        return alike

    def _strangeness(self, here: Floats, there: Floats, gap: NDArray[Any]) -> Floats:
        """The penalty for the distance of two places [..., 3] that are some frames apart."""
        settings = self.config.link
        far = distance(here, there, self.config.far)
        lost: Floats = settings.nearness * far / (1 + settings.fade * np.maximum(gap - 1, 0))
        return lost

    def assigned(self) -> list[Ints]:
        """Ids after each frame's detections are assigned again. An unassigned one may start a new track."""
        ids: list[Ints] = []
        expected, gaps = self._expected()
        known, new = unit(self.sums), count(min(self.ids.min(initial=-1), -1) - 1, -1)
        for t, (frame, given, looks) in enumerate(zip(self.frames, self.given, self.looks, strict=True)):
            alike = looks @ known.T
            here = np.flatnonzero(given != -1)
            rows = np.searchsorted(self.ids, given[here])
            others = self.sums[rows] - frame.scores[here, None] * looks[here]  # the track without this frame
            elsewhere = np.isfinite(gaps[rows, t])
            here, rows, others = here[elsewhere], rows[elsewhere], others[elsewhere]
            alike[:, rows] = looks @ unit(others).T
            gap = np.where(np.isfinite(gaps[:, t]), gaps[:, t], 1)
            strange = self._strangeness(frame.places[:, None], expected[:, t], gap)
            above = alike - strange - self.config.link.keep
            chosen, tracks = best_pairs(above)
            answer = np.full(len(frame), -1, np.int64)
            answer[chosen] = self.ids[tracks]
            free = np.flatnonzero((answer == -1) & (frame.scores > self.config.new_score))
            answer[free] = [next(new) for _ in free]
            ids.append(answer)
        return ids

    def _expected(self) -> tuple[Floats, Floats]:
        """Expected position of each track in each frame [K, T, 3], and frames to the next observation [K, T].

        Both come from observations in other columns. Without any, the track's own place and infinity.
        """
        seen = ~np.isnan(self.times)
        columns, last = np.arange(seen.shape[1]), seen.shape[1] - 1
        before = np.maximum.accumulate(np.where(seen, columns, -1), 1)[:, :-1]
        after = np.minimum.accumulate(np.where(seen, columns, last + 1)[:, ::-1], 1)[:, ::-1]
        after = np.concatenate([after[:, 2:], np.full((len(seen), 1), last + 1)], 1)[:, :last]
        now = columns[:last]
        since = now - np.where(before >= 0, np.take_along_axis(self.times, before.clip(0), 1), -np.inf)
        until = np.where(after <= last, np.take_along_axis(self.times, after.clip(max=last), 1), np.inf) - now
        place_before, place_after = (
            np.take_along_axis(self.places, column[..., None].clip(0, last), 1) for column in (before, after)
        )
        with np.errstate(invalid="ignore"):
            share = np.where(np.isinf(until), 0, np.where(np.isinf(since), 1, since / (since + until)))
        expected = (1 - share[..., None]) * place_before + share[..., None] * place_after
        gaps = np.minimum(since, until)
        own = self.places[:, 1:]
        return np.where(np.isinf(gaps)[..., None], own, expected).astype(np.float32), gaps
