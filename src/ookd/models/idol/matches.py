"""What IDOL answered for the frames of a training step, for distillation to build on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ookd.matching import match_frame
from ookd.structures import Batch, FrameQueries, StudentMatches


def lesson(batch: Batch, places: Tensor, answers: Sequence[FrameQueries]) -> StudentMatches:
    """From the answer for each of the student's S frames of every clip; `places` [B, S]. The query of an
    instance is the best of those that detection gives it.
    """
    clips, steps = places.shape
    most = max(1, *(len(tracks) for tracks in batch.tracks))
    query = torch.zeros(clips * steps, most, dtype=torch.long, device=places.device)
    valid = torch.zeros_like(query, dtype=torch.bool)
    for clip, tracks in enumerate(batch.tracks):
        for step, answer in enumerate(answers):
            assert answer.boxes is not None
            frame, place = clip * steps + step, places[clip, step]
            shown = tracks.visible[:, place].nonzero()[:, 0]
            labels, boxes = tracks.labels[shown], tracks.boxes[shown, place]
            query[frame, shown] = match_frame(answer.logits[clip], answer.boxes[clip], labels, boxes)[1]
            valid[frame, shown] = True
    return StudentMatches(join(answers), query, valid)


def join(answers: Sequence[FrameQueries]) -> FrameQueries:
    """Answers for one frame of every clip each, as one for all frames, clip after clip."""

    def frames(values: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(values), 1).flatten(0, 1)

    def masks(select: Tensor) -> Tensor:
        rows = select.unflatten(0, (-1, len(answers)))
        return frames([answer.masks(rows[:, step]) for step, answer in enumerate(answers)])

    boxes = [answer.boxes for answer in answers if answer.boxes is not None]
    return FrameQueries(
        frames([answer.logits for answer in answers]),
        frames(boxes) if boxes else None,
        frames([answer.embed for answer in answers]),
        frames([answer.features for answer in answers]),
        masks,
        maps=[frames(level) for level in zip(*(answer.maps for answer in answers), strict=True)],
    )
