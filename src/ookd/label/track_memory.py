"""The memory of promptable video models, reduced to what they still use.

Their sessions keep every frame and every state of every object, which fills any memory on a long video. Later
frames read only a small part of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from ookd.structures import Rle, TrackResult
from ookd.tracking.results import Spool

CONDITIONS = 16  # prompted frames of an object that are kept


class CurrentFrame(dict[int, Tensor]):
    """The frames of a session: its length is the video's, but it holds only the current frame."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self._length = length

    def show(self, number: int, pixels: Tensor) -> None:
        self.clear()
        self[number] = pixels

    def __len__(self) -> int:
        return self._length


def forget(memory: dict[str, dict[int, dict[str, Any]]], frame: int, config: Any) -> None:
    """Drop the memory of an object that no later frame reads; `config` is that of the tracker."""
    for outputs in memory.values():
        for output in outputs.values():
            output.pop("high_res_masks", None)
            output.pop("pred_masks", None)
    tracked, shown = memory["non_cond_frame_outputs"], memory["cond_frame_outputs"]
    for old in [t for t in tracked if t <= frame - config.max_object_pointers_in_encoder]:
        del tracked[old]
    for old in sorted(shown)[:-CONDITIONS]:
        del shown[old]
    near = config.max_cond_frame_num
    far = [] if near < 0 else sorted(shown)[:-near]
    for t, output in [*tracked.items(), *((t, shown[t]) for t in far)]:
        if t <= frame - config.num_maskmem:
            output["maskmem_features"] = output["maskmem_pos_enc"] = None


class SpooledTracks:
    """Unfinished tracks. Their masks are on disk, so that a video can be hours long."""

    def __init__(self, length: int) -> None:
        self._length, self._spool = length, Spool()
        self._last: dict[int, int] = {}  # id -> the record of its last mask

    def add(self, id: int, frame: int, mask: Rle, score: float) -> None:
        self._last[id] = self._spool.append(self._last.get(id, -1), frame, mask, score)

    def __iter__(self) -> Iterator[int]:
        """The ids, in order of appearance."""
        return iter(self._last)

    def result(self, id: int, video: int, category: int) -> TrackResult:
        """The track of an id. Its confidence is the mean of its frames."""
        masks, scores = self._spool.track(self._last[id], self._length)
        known = [score for score in scores if score is not None]
        return TrackResult(video, category, sum(known) / len(known), masks, scores)
