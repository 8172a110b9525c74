"""A teacher whose answers about the videos were computed once.

The cache holds masks in the coordinates of the video's own frames; they are moved to where augmentation put
the frame. What the cache cannot know, clips with pasted objects and videos that are not in it, goes to the
live teacher.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ookd.clips.minor_paste import PASTED
from ookd.distill.cache import CachedWindow, TeacherCache
from ookd.distill.teacher import LiveTeacher, TeacherAnswer, student_places
from ookd.structures import Batch, ClipQueries, Origin, Tracks

STRIDE = 4  # of the masks in the answer, in pixels of the batch
NEVER = -20.0  # logit of absent things


class CachedTeacher:
    """Answers for the clips' frames as the live teacher does, and is judged on them.

    Frames outside the cached window that answers for a clip count as frames that show nothing.
    """

    def __init__(self, live: LiveTeacher, cache: TeacherCache, frames: bool = False) -> None:
        """With `frames`, the live teacher also sees the student's frames, for signals that compare frames.
        The answer about the clip still comes from the cache.
        """
        self.live, self.cache, self.frames = live, cache, frames

    def infer(self, batch: Batch) -> list[TeacherAnswer]:
        places = student_places(batch).tolist()
        found: dict[int, CachedWindow] = {}
        for clip, (origin, shown) in enumerate(zip(batch.origins, places, strict=False)):
            pasted = bool((batch.tracks[clip].ids >= PASTED).any())
            if not pasted and (window := self._find(origin, shown)):
                found[clip] = window
        answers = [self._from_cache(batch, found)] if found else []
        if rest := [clip for clip in range(len(batch.frames)) if clip not in found]:
            for answer in self.live.infer(batch.pick(rest)):
                answer.clips = torch.tensor(rest, device=answer.clips.device)[answer.clips]
                answers.append(answer)
        return answers

    def _find(self, clip: Origin, student: list[int]) -> CachedWindow | None:
        """Of the windows with all frames that the student saw, the one with most of the clip's."""
        if clip.video not in self.cache:
            return None
        shown = clip.frames[student].tolist()
        begun = [n for n, first in enumerate(self.cache.windows(clip.video)) if first <= min(shown)]
        holding: list[CachedWindow] = []
        for number in reversed(begun):
            window = self.cache.read(clip.video, number)
            if max(shown) not in window.frames:
                break  # and the earlier ones end before this one
            holding.append(window)
        return max(holding, key=lambda window: len(_places_within(clip, window)), default=None)

    def _from_cache(self, batch: Batch, found: dict[int, CachedWindow]) -> TeacherAnswer:
        """The answer for some clips, padded with empty rows to the most kept queries of a clip."""
        device = batch.frames.device
        clips = batch.pick(list(found))
        most = max(1, *(len(window.features) for window in found.values()))
        size = (batch.frames.shape[-2] // STRIDE, batch.frames.shape[-1] // STRIDE)
        outside = clips.pad[..., STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE].cpu()  # [n, T, *size]
        rows, tracks = [], []
        for row, (window, origin) in enumerate(zip(found.values(), clips.origins, strict=True)):
            places = _places_within(origin, window)
            frames = torch.from_numpy(origin.frames[places]) - window.first
            masks = torch.full((len(window.masks), len(origin.frames), *size), NEVER)
            masks[:, places] = place_masks(
                window.masks[:, frames], window.extent, origin.placed[places], size
            )
            by_frame = window.frame_features.new_zeros(len(origin.frames), *window.frame_features.shape[1:])
            by_frame[places] = window.frame_features[frames]
            rows.append(
                (
                    _pad_rows(self.live.in_student_order(window.logits.float()), most, NEVER),
                    _pad_rows(window.features.float(), most, 0.0),
                    _pad_rows(by_frame.float().transpose(0, 1), most, 0.0).transpose(0, 1),
                    _pad_rows(masks.masked_fill(outside[row], NEVER), most, NEVER),
                )
            )
            tracks.append(_hide_other_frames(clips.tracks[row], places))
        logits, features, frame_features, tubes = (
            torch.stack(column).to(device) for column in zip(*rows, strict=True)
        )

        def masks_of(select: Tensor) -> Tensor:
            return tubes[torch.arange(len(tubes), device=device).unsqueeze(1), select]

        queries = ClipQueries(logits, None, features, frame_features, masks_of)
        index = torch.tensor(list(found), device=device)
        answer = TeacherAnswer(queries, tracks, index, student_places(clips))
        if self.frames:
            (seen,) = self.live.infer(clips.seen_by_student())
            answer.frames, answer.frame_places = seen.frames, seen.frame_places
        return answer


def _places_within(clip: Origin, window: CachedWindow) -> list[int]:
    """The places in the clip whose frames the window has."""
    return [place for place, frame in enumerate(clip.frames.tolist()) if frame in window.frames]


def _hide_other_frames(truth: Tracks, places: list[int]) -> Tracks:
    """The ground truth as if frames elsewhere in the clip showed nothing."""
    there = truth.visible.new_zeros(truth.visible.shape[1])  # [T]
    there[places] = True
    return replace(
        truth,
        boxes=truth.boxes * there[:, None],
        masks=truth.masks & there[:, None, None],
        visible=truth.visible & there,
    )


def place_masks(masks: Tensor, extent: Tensor, placed: NDArray[np.float64], size: tuple[int, int]) -> Tensor:
    """Mask logits [M, T, *size] in the batch, from uint8 [M, T, h, w] that span `extent` of the frame.

    `placed` [T, 2, 3] says where the frame's pixels went. A cell of the batch is sampled at its centre.
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


def _pad_rows(x: Tensor, rows: int, value: float) -> Tensor:
    return F.pad(x, [0, 0] * (x.dim() - 1) + [0, rows - len(x)], value=value)
