"""A teacher whose knowledge of the videos was computed once.

PairBatch is kept in the coordinates of the video's own frames: masks are brought to where augmentation put
the frame. About what the cache cannot know, clips with pasted objects and videos that are not in it, the live
teacher is asked.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ookd.clips.minor_paste import PASTED
from ookd.distill.cache import Cache, Window
from ookd.distill.knowledge import TeacherAnswer
from ookd.distill.teacher import LiveTeacher, places
from ookd.structures import Batch, ClipQueries, Origin, Tracks

STRIDE = 4  # of the masks that are handed out, in pixels of the batch
NEVER = -20.0  # logit of what is not there


class CachedTeacher:
    """Answers for the clips' frames as the live teacher does, and is judged on them.

    A frame outside the window of the video that knows the student's frames counts as one that shows nothing.
    """

    def __init__(self, live: LiveTeacher, cache: Cache, look: bool = False) -> None:
        """With `look` the live teacher looks at the student's frames, for signals that compare single frames;
        of the clip it still remembers what is cached.
        """
        self.live, self.cache, self.look = live, cache, look

    def ask(self, batch: Batch) -> list[TeacherAnswer]:
        shown = places(batch).tolist()
        found = {
            b: known
            for b, (origin, row) in enumerate(zip(batch.origins, shown, strict=False))
            if not bool((batch.tracks[b].ids >= PASTED).any()) and (known := self._find(origin, row))
        }
        told = [self._remember(batch, found)] if found else []
        if rest := [b for b in range(len(batch.frames)) if b not in found]:
            for one in self.live.ask(batch.pick(rest)):
                one.clips = torch.tensor(rest, device=one.clips.device)[one.clips]
                told.append(one)
        return told

    def _find(self, clip: Origin, student: list[int]) -> Window | None:
        """Of the windows with all frames that the student saw, the one with most of the clip's."""
        if clip.video not in self.cache:
            return None
        seen = clip.frames[student].tolist()
        begun = [n for n, first in enumerate(self.cache.windows(clip.video)) if first <= min(seen)]
        holding: list[Window] = []
        for number in reversed(begun):
            window = self.cache.read(clip.video, number)
            if max(seen) not in window.frames:
                break  # and the earlier ones end before this one
            holding.append(window)
        return max(holding, key=lambda window: len(_within(clip, window)), default=None)

    def _remember(self, batch: Batch, found: dict[int, Window]) -> TeacherAnswer:
        """The answer for some clips, padded to the most kept queries of one with rows of nothing."""
        device = batch.frames.device
        asked = batch.pick(list(found))
        most = max(1, *(len(window.features) for window in found.values()))
        size = (batch.frames.shape[-2] // STRIDE, batch.frames.shape[-1] // STRIDE)
        outside = asked.pad[..., STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE].cpu()  # [n, T, *size]
        rows, tracks = [], []
        for row, (window, origin) in enumerate(zip(found.values(), asked.origins, strict=True)):
            known = _within(origin, window)  # places in the clip
            frames = torch.from_numpy(origin.frames[known]) - window.first
            masks = torch.full((len(window.masks), len(origin.frames), *size), NEVER)
            masks[:, known] = place_masks(window.masks[:, frames], window.extent, origin.placed[known], size)
            views = window.frame_features.new_zeros(len(origin.frames), *window.frame_features.shape[1:])
            views[known] = window.frame_features[frames]
            rows.append(
                (
                    _padded(self.live.in_order(window.logits.float()), most, NEVER),
                    _padded(window.features.float(), most, 0.0),
                    _padded(views.float().transpose(0, 1), most, 0.0).transpose(0, 1),
                    _padded(masks.masked_fill(outside[row], NEVER), most, NEVER),
                )
            )
            tracks.append(_in_view(asked.tracks[row], known))
        logits, features, views, masks = (
            torch.stack(column).to(device) for column in zip(*rows, strict=True)
        )

        def drawn(select: Tensor) -> Tensor:
            return masks[torch.arange(len(masks), device=device).unsqueeze(1), select]

        answer = ClipQueries(logits, None, features, views, drawn)
        told = TeacherAnswer(answer, tracks, torch.tensor(list(found), device=device), places(asked))
        if self.look:
            (seen,) = self.live.ask(asked.seen_by_student())
            told.maps, told.probe = seen.maps, seen.probe
        return told


def _within(clip: Origin, window: Window) -> list[int]:
    """Places of the clip whose frames the window has."""
    return [place for place, frame in enumerate(clip.frames.tolist()) if frame in window.frames]


def _in_view(truth: Tracks, known: list[int]) -> Tracks:
    """As if the other frames showed nothing."""
    there = truth.visible.new_zeros(truth.visible.shape[1])  # [T]
    there[known] = True
    return replace(
        truth,
        boxes=truth.boxes * there[:, None],
        masks=truth.masks & there[:, None, None],
        visible=truth.visible & there,
    )


def place_masks(masks: Tensor, extent: Tensor, placed: NDArray[np.float64], size: tuple[int, int]) -> Tensor:
    """Mask logits [M, T, *size] in the batch, from uint8 [M, T, h, w] that span `extent` of the frame.

    `placed` [T, 2, 3] says where the frame's pixels went. A cell of the batch asks what is at its centre.
    """
    height, width = size
    y, x = torch.meshgrid(
        (torch.arange(height) + 0.5) * STRIDE, (torch.arange(width) + 0.5) * STRIDE, indexing="ij"
    )
    centres = torch.stack([x, y], -1).double()  # [h, w, 2] pixels of the batch
    forward = torch.from_numpy(np.ascontiguousarray(placed))
    back = torch.linalg.inv(forward[:, :, :2])  # [T, 2, 2]
    pixels = torch.einsum("tij,thwj->thwi", back, centres - forward[:, None, None, :, 2])
    grid = (2 * pixels / extent.double() - 1).float()  # [T, h, w, 2]
    values = F.grid_sample(
        masks.transpose(0, 1).float() / 255, grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return values.transpose(0, 1).logit(eps=1e-4)


def _padded(x: Tensor, rows: int, value: float) -> Tensor:
    return F.pad(x, [0, 0] * (x.dim() - 1) + [0, rows - len(x)], value=value)
