"""Objects of overlapping clips joined to tracks, by the agreement of their masks on common frames.

Only the latest clips are compared, and only frames that a later clip can still contain stay in memory, so a
video may have any length.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

EPS = 1e-6


@dataclass(slots=True)
class LinkedClip:
    start: int  # number of its first frame
    ids: list[int]  # N tracks
    masks: Tensor  # [N, T, h, w] probabilities


@dataclass(slots=True)
class LinkedFrame:
    """The merged answer for one frame."""

    index: int
    ids: list[int]  # N tracks
    logits: Tensor  # [N, h, w] mean over the clips with the track in this frame


class ClipLinker:
    """Takes clips in the order of their frames. Masks that agree more than `threshold` show one object."""

    def __init__(self, length: int, threshold: float) -> None:
        self.threshold = threshold
        self.recent: deque[LinkedClip] = deque(maxlen=length)
        self.probs: list[list[Tensor]] = []  # by track: class probabilities [K], one a clip
        # frame -> track -> mask logits [h, w], one a clip
        self.frames: dict[int, dict[int, list[Tensor]]] = {}

    def add(self, start: int, probs: Tensor, logits: Tensor) -> None:
        """A clip from frame `start`: class probabilities [N, K], mask logits [N, T, h, w]."""
        masks = logits.sigmoid()
        ids = self._match(start, masks)
        for row, track in enumerate(ids):
            self.probs[track].append(probs[row])
            for t in range(logits.shape[1]):
                self.frames.setdefault(start + t, {}).setdefault(track, []).append(logits[row, t])
        self.recent.append(LinkedClip(start, ids, masks))

    def finished(self, before: int | None = None) -> Iterator[LinkedFrame]:
        """Frames below `before`, or all of them. They are dropped from memory."""
        for index in sorted(frame for frame in self.frames if before is None or frame < before):
            tracks = self.frames.pop(index)
            logits = torch.stack([torch.stack(clips).mean(0) for clips in tracks.values()])
            yield LinkedFrame(index, list(tracks), logits)

    def _match(self, start: int, masks: Tensor) -> list[int]:
        """The track of each object [N, T, h, w] of a clip, a new one if it agrees with none."""
        ids = [-1] * len(masks)
        known = sorted({track for clip in self.recent for track in clip.ids})
        if known:
            agreement = self._agreement(known, start, masks).cpu()
            agreement = agreement * (agreement > self.threshold)
            for row, column in zip(*linear_sum_assignment(agreement, maximize=True), strict=True):
                if agreement[row, column] > 0:
                    ids[column] = known[row]
        for new, track in enumerate(ids):
            if track < 0:
                ids[new] = len(self.probs)
                self.probs.append([])
        return ids

    def _agreement(self, known: list[int], start: int, masks: Tensor) -> Tensor:
        """[tracks, N] soft IoU on common frames, averaged over the recent clips with the track."""
        total = masks.new_zeros(len(known), len(masks))
        clips = masks.new_zeros(len(known), 1)
        place = {track: row for row, track in enumerate(known)}
        for clip in self.recent:
            first = max(clip.start, start)
            last = min(clip.start + clip.masks.shape[1], start + masks.shape[1])
            if first >= last:
                continue
            rows = [place[track] for track in clip.ids]
            total[rows] += soft_iou(
                clip.masks[:, first - clip.start : last - clip.start], masks[:, first - start : last - start]
            )
            clips[rows] += 1
        return total / (clips + EPS)


def soft_iou(one: Tensor, other: Tensor) -> Tensor:
    """[A, B] products over soft unions, both summed, of probabilities [A, T, h, w] and [B, T, h, w]."""
    one, other = one.flatten(1), other.flatten(1)
    both = one @ other.T
    return both / (one.sum(1, keepdim=True) + other.sum(1) - both + EPS)
