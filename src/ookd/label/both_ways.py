"""A labeller asked twice: forwards and backwards. What both runs say is sure, what one says is not.

A tracker that goes forward knows an object by its past, one that goes backward by its future. Tracks of the
two runs are joined where their tubes overlap; the class is decided by a vote over all frames of both. Where
one run takes for one object what the other one tells apart, the track is cut.

Axes: F tracks of the forward run, B of the backward run, T frames.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ookd.evaluation.tubes import measure_tubes, overlap, ratio
from ookd.label.labeller import Labeller
from ookd.masks import Bools
from ookd.structures import Rle, TrackResult
from ookd.tracking.recordings import Recording

AGREE = 0.5  # mask IoU from which two masks of a frame show the same
PARTNER = 3  # frames in which two tracks must agree to count as partners
ALONE = 0.5  # what a frame's confidence is worth that only one of the runs vouches for


class BothWays:
    """The labeller `inner`, run over each video in both directions."""

    def __init__(self, inner: Labeller) -> None:
        self.inner = inner

    @property
    def names(self) -> Sequence[str]:
        return self.inner.names

    @property
    def teacher(self) -> Mapping[str, Any]:
        return self.inner.teacher

    @property
    def settings(self) -> Mapping[str, Any]:
        return {**self.inner.settings, "both_ways": True}

    def tracks(
        self, recording: Recording, on_frame: Callable[[], None] = lambda: None
    ) -> Iterator[TrackResult]:
        forward = list(self.inner.tracks(recording, on_frame))
        backward = [
            replace(
                track,
                segmentations=track.segmentations[::-1],
                frame_scores=None if track.frame_scores is None else track.frame_scores[::-1],
            )
            for track in self.inner.tracks(recording.backwards(), on_frame)
        ]
        yield from joined(forward, backward)


def joined(forward: Sequence[TrackResult], backward: Sequence[TrackResult]) -> list[TrackResult]:
    """The tracks of two runs over the same frames as one list, in the order of their first frames."""
    size = next((m["size"] for track in (*forward, *backward) for m in track.segmentations if m), None)
    if size is None:
        return []
    length = len((*forward, *backward)[0].segmentations)
    first, second = (
        measure_tubes([track.segmentations for track in run], length, size[0], size[1])[0]
        for run in (forward, backward)
    )
    iou = overlap(first, second).frame_iou()  # [F, B, T]
    agree = _mutual(iou)
    ahead = _cut([track.segmentations for track in forward], agree, second.area > 0)
    back = _cut([track.segmentations for track in backward], agree.transpose(1, 0, 2), first.area > 0)
    found = [_fused(group, forward, backward, iou) for group in _groups(ahead, back, iou, agree)]
    return sorted(found, key=lambda track: [mask is None for mask in track.segmentations])


@dataclass(slots=True)
class Stretch:
    """Some frames of one track."""

    track: int  # in its run
    frames: Bools  # [T]


@dataclass(slots=True)
class Group:
    """Pieces of both runs that show one object."""

    forward: list[Stretch]
    backward: list[Stretch]

    def fits(self, other: Group) -> bool:
        """Whether no run sees two different things in one frame of them."""
        runs = ((self.forward, other.forward), (self.backward, other.backward))
        return not any(bool((a.frames & b.frames).any()) for mine, yours in runs for a in mine for b in yours)


def _mutual(iou: NDArray[np.float64]) -> Bools:
    """[F, B, T] whether two tracks agree in a frame: each is the other's best there."""
    if not iou.size:
        return np.zeros(iou.shape, bool)
    best: Bools = (iou >= iou.max(0, keepdims=True)) & (iou >= iou.max(1, keepdims=True))
    return best & (iou >= AGREE)


def _cut(masks: Sequence[Sequence[Rle | None]], agree: Bools, seen: Bools) -> list[Stretch]:
    """The tracks of a run, cut where the other run goes over to another object.

    `agree` [F, B, T] is with the other run, whose tracks are `seen` [B, T]. Two of its tracks are different
    objects if it sees both in one frame.
    """
    pieces = []
    for track, own in enumerate(masks):
        shown = np.array([mask is not None for mask in own])
        partners = np.flatnonzero(agree[track].sum(1) >= PARTNER)
        starts, current = [0], list[int]()
        for frame in np.flatnonzero(shown):
            for partner in partners[agree[track, partners, frame]].tolist():
                if partner in current:
                    continue
                if any(bool((seen[partner] & seen[other]).any()) for other in current):
                    starts.append(int(frame))
                    current = []
                current.append(partner)
        for start, end in zip(starts, [*starts[1:], len(own)], strict=True):
            inside = shown.copy()
            inside[:start], inside[end:] = False, False
            if inside.any():
                pieces.append(Stretch(track, inside))
    return pieces


def _groups(
    ahead: Sequence[Stretch], back: Sequence[Stretch], iou: NDArray[np.float64], agree: Bools
) -> list[Group]:
    """Pieces joined by the overlap of their tubes, those that agree in most frames first."""
    group_of = {("forward", n): Group([piece], []) for n, piece in enumerate(ahead)}
    group_of |= {("backward", n): Group([], [piece]) for n, piece in enumerate(back)}
    pairs = []
    for f, one in enumerate(ahead):
        for b, other in enumerate(back):
            common = one.frames & other.frames
            agreed = int((agree[one.track, other.track] & common).sum())
            if agreed and ratio(iou[one.track, other.track, common].sum(), common.sum()) >= AGREE:
                pairs.append((-agreed, f, b))
    for _, f, b in sorted(pairs):
        mine, yours = group_of["forward", f], group_of["backward", b]
        if mine is yours or not mine.fits(yours):
            continue
        both = Group(mine.forward + yours.forward, mine.backward + yours.backward)
        for key, group in group_of.items():
            if group is mine or group is yours:
                group_of[key] = both
    return list({id(group): group for group in group_of.values()}.values())


def _fused(
    group: Group, forward: Sequence[TrackResult], backward: Sequence[TrackResult], iou: NDArray[np.float64]
) -> TrackResult:
    """One track. A frame is as sure as both runs in the mean, times how well their masks agree."""
    length = iou.shape[2]
    masks: list[Rle | None] = [None] * length
    scores: list[float | None] = [None] * length
    votes: defaultdict[int, float] = defaultdict(float)  # category -> sum of frame scores
    for frame in range(length):
        there = [
            [(run[piece.track], piece.track) for piece in pieces if piece.frames[frame]]
            for run, pieces in ((forward, group.forward), (backward, group.backward))
        ]
        views = [(track, _score(track, frame)) for side in there for track, _ in side]
        for track, score in views:
            votes[track.category_id] += score
        if not views:
            continue
        best = max(views, key=lambda view: view[1])[0]
        masks[frame] = best.segmentations[frame]
        share = float(iou[there[0][0][1], there[1][0][1], frame]) if len(views) == 2 else ALONE
        scores[frame] = share * sum(score for _, score in views) / len(views)
    known = [score for score in scores if score is not None]
    video = (forward or backward)[0].video_id
    return TrackResult(video, max(votes, key=votes.__getitem__), sum(known) / len(known), masks, scores)


def _score(track: TrackResult, frame: int) -> float:
    score = track.score if track.frame_scores is None else track.frame_scores[frame]
    return score or 0.0
