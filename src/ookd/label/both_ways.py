"""A labeller run forwards and backwards. What both runs agree on is certain; the rest is not.

A forward tracker knows an object by its past, a backward one by its future. Tracks of the two runs that
overlap in many frames are one object; all frames of both vote for its class. Where the runs disagree about
identity, a mask goes to the object that was nearest in the previous frame, and is unsure. A track that is
unsure for long is cut later.

Both runs' tracks are held in memory; their masks are compared frame by frame.

Axes: F tracks of the forward run, B of the backward run, T frames.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ookd.data import rle
from ookd.evaluation.tubes import measure_tubes, overlap
from ookd.label.labeller import Labeller
from ookd.masks import Bools
from ookd.structures import Rle, TrackResult
from ookd.tracking.recordings import Recording

AGREE = 0.5  # least IoU of two masks of a frame that show the same object
MANY = 3  # frames that are not a coincidence
UNSURE = 0.5  # factor of a frame's confidence if only one run supports it

Agreed = dict[int, tuple[int, float]]  # of one frame: forward track -> backward track, and their overlap


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
    agreed = [_agreement(forward, backward, t, size) for t in range(length)]
    together = np.zeros((len(forward), len(backward)), np.int64)
    for pairs in agreed:
        for f, (b, _) in pairs.items():
            together[f, b] += 1
    objects = _objects(together, _seen(forward, length), _seen(backward, length))
    detections = _paired(forward, backward, agreed)
    found = [_track(views, length) for views in _by_object(detections, objects) if views]
    return sorted(found, key=lambda track: [mask is None for mask in track.segmentations])


@dataclass(frozen=True, slots=True)
class PairedDetection:
    """An object in a frame, seen by one run or by both."""

    frame: int
    forward: int | None  # the track in the forward run
    backward: int | None
    mask: Rle
    score: float
    votes: tuple[tuple[int, float], ...]  # category and confidence, of each run
    video: int


def _agreement(
    forward: Sequence[TrackResult], backward: Sequence[TrackResult], frame: int, size: Sequence[int]
) -> Agreed:
    """Who agrees with whom in a frame: each is the other's best match there."""
    ahead, back = (
        {n: [track.segmentations[frame]] for n, track in enumerate(run) if track.segmentations[frame]}
        for run in (forward, backward)
    )
    if not ahead or not back:
        return {}
    first, second = (measure_tubes([*run.values()], 1, size[0], size[1])[0] for run in (ahead, back))
    iou = overlap(first, second).frame_iou()[:, :, 0]
    best = (iou >= iou.max(0)) & (iou >= iou.max(1, keepdims=True)) & (iou >= AGREE)
    return {list(ahead)[f]: (list(back)[b], float(iou[f, b])) for f, b in np.argwhere(best).tolist()}


def _seen(run: Sequence[TrackResult], length: int) -> Bools:
    """[N, T] the frames that show each track."""
    seen = [[mask is not None and rle.area(mask) > 0 for mask in track.segmentations] for track in run]
    return np.array(seen, bool).reshape(-1, length)


def _objects(agreed: NDArray[Any], ahead: Bools, back: Bools) -> tuple[list[int], list[int]]:
    """The object of each track of both runs. Tracks that agree in the most frames are joined first.

    Tracks are not joined if one run sees them as two objects in many frames. `agreed` [F, B] counts frames.
    The runs see their tracks in the frames `ahead` [F, T] and `back` [B, T].
    """
    runs = [ahead.astype(np.int16), back.astype(np.int16)]  # frames of each object, in how many of its tracks
    of = list(range(len(ahead))), list(range(len(ahead), len(ahead) + len(back)))
    frames = [np.concatenate([runs[0], 0 * runs[1]]), np.concatenate([0 * runs[0], runs[1]])]
    for f, b in sorted(np.argwhere(agreed > 0).tolist(), key=lambda pair: (-agreed[pair[0], pair[1]], pair)):
        shorter = min(runs[0][f].sum(), runs[1][b].sum())
        keep, join = of[0][f], of[1][b]
        if keep == join or agreed[f, b] < min(MANY, shorter):
            continue
        if any(int(((side[keep] > 0) & (side[join] > 0)).sum()) >= MANY for side in frames):
            continue
        for side in frames:
            side[keep] += side[join]
        for tracks in of:
            tracks[:] = [keep if object == join else object for object in tracks]
    return of


def _paired(
    forward: Sequence[TrackResult], backward: Sequence[TrackResult], agreed: Sequence[Agreed]
) -> list[list[PairedDetection]]:
    """The objects in each frame. Their confidence is the mean of both runs, times their agreement."""
    frames: list[list[PairedDetection]] = []
    for t, agreement in enumerate(agreed):
        taken = {b for b, _ in agreement.values()}
        shown = [f for f, track in enumerate(forward) if track.segmentations[t] is not None]
        pairs: list[tuple[int | None, int | None]] = [(f, agreement.get(f, (None, 0.0))[0]) for f in shown]
        pairs += [(None, b) for b in range(len(backward)) if b not in taken]
        found = []
        for f, b in pairs:
            tracks = [run[n] for run, n in ((forward, f), (backward, b)) if n is not None]
            votes = tuple((track.category_id, _score(track, t)) for track in tracks)
            best = max(tracks, key=lambda track: _score(track, t))
            share = UNSURE if f is None or b is None else agreement[f][1]
            score = share * sum(score for _, score in votes) / len(votes)
            if (mask := best.segmentations[t]) is not None:
                found.append(PairedDetection(t, f, b, mask, score, votes, best.video_id))
        frames.append(found)
    return frames


def _by_object(
    frames: Sequence[Sequence[PairedDetection]], objects: tuple[list[int], list[int]]
) -> list[list[PairedDetection]]:
    """The detections of each object. A disputed one goes to the nearest object, or to a new one."""
    views: defaultdict[Any, list[PairedDetection]] = defaultdict(list)
    boxes: dict[Any, NDArray[np.float64]] = {}  # the last position of each object
    for detections in frames:
        taken: set[Any] = set()
        owners = [_owners(detection, objects) for detection in detections]
        for detection, owned in sorted(zip(detections, owners, strict=True), key=lambda one: len(one[1])):
            box = np.array(rle.box_xywh(detection.mask))
            free = [owner for owner in owned if owner not in taken]
            near = max(free, key=lambda owner: _box_overlap(box, boxes.get(owner)), default=None)
            owner = (detection.forward, detection.backward) if near is None else near
            if len(owned) > 1 or near is None:
                detection = replace(detection, score=UNSURE * detection.score)
            views[owner].append(detection)
            boxes[owner] = box
            taken.add(owner)
    return list(views.values())


def _owners(detection: PairedDetection, objects: tuple[list[int], list[int]]) -> list[int]:
    """The objects that the runs assign to a detection."""
    tracks = zip(objects, (detection.forward, detection.backward), strict=True)
    return list(dict.fromkeys(of[track] for of, track in tracks if track is not None))


def _box_overlap(a: NDArray[np.float64], b: NDArray[np.float64] | None) -> float:
    """IoU of two boxes x, y, w, h; negative if there is no second one."""
    if b is None:
        return -1.0
    sides = np.minimum(a[:2] + a[2:], b[:2] + b[2:]) - np.maximum(a[:2], b[:2])
    shared = float(sides.clip(min=0).prod())
    return shared / max(float(a[2:].prod() + b[2:].prod()) - shared, 1e-9)


def _track(views: Sequence[PairedDetection], length: int) -> TrackResult:
    """One track, with the class of the highest total confidence."""
    masks: list[Rle | None] = [None] * length
    scores: list[float | None] = [None] * length
    votes: defaultdict[int, float] = defaultdict(float)
    for view in views:
        masks[view.frame], scores[view.frame] = view.mask, view.score
        for category, score in view.votes:
            votes[category] += score
    mean = sum(view.score for view in views) / len(views)
    return TrackResult(views[0].video, max(votes, key=votes.__getitem__), mean, masks, scores)


def _score(track: TrackResult, frame: int) -> float:
    score = track.score if track.frame_scores is None else track.frame_scores[frame]
    return score or 0.0
