"""The published inference of SeqFormer: a video in one pass, or in overlapping clips."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ookd.data import rle
from ookd.masks import Geometry, full_size
from ookd.models.families import family_of
from ookd.models.seqformer.clip_linking import ClipLinker, LinkedFrame
from ookd.models.seqformer.model import FrameMemory, SeqFormer
from ookd.structures import Rle, TrackResult

QUERIES = 10  # the best queries of a clip are used
MIN_SCORE = 0.05  # a (track, class) pair is reported above it
AGREEMENT = 0.01  # soft IoU of masks in two clips above which they show one object
ENCODED_TOGETHER = 10  # frames in one pass of the encoder, which treats each on its own


@dataclass(slots=True)
class VideoTracks:
    """The objects of one video."""

    probs: NDArray[np.float32]  # [N, K]
    masks: list[list[Rle]]  # N x T, of the original frames

    def results(self, video_id: int, category_ids: Sequence[int]) -> list[TrackResult]:
        """One line a track and class that is likely enough; `category_ids` by label."""
        return [
            TrackResult(video_id, category_ids[label], float(self.probs[track, label]), [*self.masks[track]])
            for track, label in zip(*np.nonzero(self.probs > MIN_SCORE), strict=True)
        ]


@torch.inference_mode()
def whole_video(model: SeqFormer, frames: Iterable[Tensor], geometry: Geometry) -> VideoTracks:
    """All frames, uint8 [3, h, w] and already resized, at once. Memory grows with the video."""
    memory = FrameMemory.join(list(_encoded(model, frames)))
    probs, logits = _best(model, memory)
    masks = [_full_size(logits[:, t], geometry) for t in range(logits.shape[1])]  # T x N
    return VideoTracks(probs.float().cpu().numpy(), [list(track) for track in zip(*masks, strict=True)])


@torch.inference_mode()
def clip_by_clip(
    model: SeqFormer, frames: Iterable[Tensor], geometry: Geometry, length: int = 5, stride: int = 1
) -> VideoTracks:
    """Frames, uint8 [3, h, w] and already resized, in clips of `length` that begin `stride` frames apart.

    The last clip ends with the video. In frames that no clip covers, nothing is found. At most `length`
    frames are in memory, apart from run-length encoded masks.
    """
    linker = ClipLinker(length, AGREEMENT)
    found: dict[tuple[int, int], Rle] = {}  # (track, frame) -> mask
    count = 0

    def keep(finished: Iterable[LinkedFrame]) -> None:
        for frame in finished:
            masks = _full_size(frame.logits, geometry)
            found.update(((track, frame.index), mask) for track, mask in zip(frame.ids, masks, strict=True))

    for start, memory in _clips(_encoded(model, frames, together=1), length, stride):
        linker.add(start, *_best(model, memory))
        keep(linker.finished(before=start + 1))
        count = start + len(memory.sizes)
    keep(linker.finished())
    empty = rle.encode(np.zeros((geometry.height, geometry.width), bool))
    probs = torch.stack([torch.stack(clips).mean(0) for clips in linker.probs]).float().cpu().numpy()
    masks = [[found.get((track, t), empty) for t in range(count)] for track in range(len(probs))]
    return VideoTracks(probs, masks)


def _encoded(
    model: SeqFormer, frames: Iterable[Tensor], together: int = ENCODED_TOGETHER
) -> Iterator[FrameMemory]:
    device, stream = next(model.parameters()).device, iter(frames)
    preprocessing = family_of(model).preprocessing
    while batch := list(islice(stream, together)):
        padded, pad = preprocessing.pad(torch.stack(batch).to(device))
        yield model.encode(preprocessing.normalise(padded, pad)[None], pad[None])


def _clips(frames: Iterable[FrameMemory], length: int, stride: int) -> Iterator[tuple[int, FrameMemory]]:
    """Clips with their first frames: one every `stride` frames, and one that ends with the video."""
    window: deque[FrameMemory] = deque(maxlen=length)
    count = done = 0
    for frame in frames:
        window.append(frame)
        count += 1
        if count >= length and (count - length) % stride == 0:
            done = count
            yield count - length, FrameMemory.join(list(window))
    if done < count:
        yield count - len(window), FrameMemory.join(list(window))


def _best(model: SeqFormer, memory: FrameMemory) -> tuple[Tensor, Tensor]:
    """Class probabilities [N, K] and mask logits [N, T, h, w] of the best queries, the best first."""
    answer = model.decode(memory, len(memory.sizes))
    probs = answer.logits[0].sigmoid()
    best = probs.max(-1).values.topk(min(QUERIES, len(probs))).indices
    return probs[best], answer.masks(best[None])[0]


def _full_size(logits: Tensor, geometry: Geometry) -> list[Rle]:
    masks, _ = full_size(logits.float().cpu().numpy(), geometry)
    return rle.encode_many(masks)
