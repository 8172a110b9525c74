"""Query filtering and association: which teacher queries know exactly one instance, and who should learn it.

A clip teacher emits far more queries than there are objects. Distilling from the rest teaches the student
noise, so a query is kept only if it names the right class and covers the right tube; and what is kept goes to
the student query that stands for the same instance in a frame.

Shapes: B clips, T frames of the teacher, S of the student, Q teacher queries, R student queries in a frame, N
instances, P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ookd.config import Filter
from ookd.matching import hungarian
from ookd.structures import ClipQueries, FrameQueries, StudentMatches, Tracks


@dataclass(frozen=True, slots=True)
class Judged:
    """The best teacher query for each track of a clip, one row each, and how good it is."""

    query: Tensor  # [N] index into the teacher's Q queries
    instance: Tensor  # [N] index into the clip's tracks
    score: Tensor  # [N] of its best class
    named: Tensor  # [N] bool: that is the right class
    iou: Tensor  # [N] overlap of the tubes


@dataclass(frozen=True, slots=True)
class Kept:
    """Teacher queries of one clip that survived, one row each. Lengths agree; there may be none."""

    query: Tensor  # [M] index into the teacher's Q queries
    instance: Tensor  # [M] index into the clip's ground-truth tracks; -1 where no labels were asked
    weight: Tensor  # [M] in (0, 1], how much to trust the row
    judged: Judged | None = None  # what the choice is made from; none where no labels were asked


@dataclass(frozen=True, slots=True)
class Pairs:
    """The same instance as the teacher knows it and as the student sees it in one frame; one row a pair."""

    clip: Tensor  # [P] row of the teacher's answer
    frame: Tensor  # [P] row of the student's B * S frames
    place: Tensor  # [P] which of the teacher's T frames that is
    teacher: Tensor  # [P] teacher query
    student: Tensor  # [P] student query
    weight: Tensor  # [P]

    def __len__(self) -> int:
        return len(self.clip)


def keep(teacher: ClipQueries, tracks: list[Tracks], rule: Filter) -> list[Kept]:
    """The teacher queries of each clip that carry knowledge, as the rule says."""
    if rule.kind == "exact":
        return [keep_exact(judge(teacher, clip, one), rule) for clip, one in enumerate(tracks)]
    return [keep_sure(teacher, clip, rule) for clip in range(len(tracks))]


def judge(teacher: ClipQueries, clip: int, tracks: Tracks) -> Judged:
    """Match each track to its best teacher query."""
    probs = teacher.logits[clip].float().sigmoid()  # [Q, K]
    masks = _tubes(teacher, clip, torch.arange(len(probs), device=probs.device))  # [Q, T, h, w]
    iou = tube_iou(masks > 0, _truth(tracks, masks))  # [Q, N]
    matched = hungarian(-iou - probs[:, tracks.labels])
    score, label = probs[matched.query].max(-1)
    named = label == tracks.labels[matched.instance]
    return Judged(*matched, score, named, iou[matched.query, matched.instance])


def keep_exact(judged: Judged, rule: Filter) -> Kept:
    """Drop matches that are not exact."""
    right = judged.named & (judged.iou >= rule.min_iou) & (judged.score >= rule.min_score)
    weight = (judged.score * judged.iou) ** rule.gamma
    return Kept(judged.query[right], judged.instance[right], weight[right], judged)


def keep_sure(teacher: ClipQueries, clip: int, rule: Filter) -> Kept:
    """Without labels: the surest queries, those whose tube repeats a surer one's left out.

    With the kind "none" nothing is left out.
    """
    score = teacher.logits[clip].float().sigmoid().amax(-1)
    order = score.argsort(descending=True, stable=True)
    if rule.kind == "sure":
        order = order[score[order] >= rule.min_score]
        masks = _tubes(teacher, clip, order) > 0
        iou = tube_iou(masks, masks.float())
        kept: list[int] = []
        for n in range(len(order)):
            if masks[n].any() and (not kept or iou[n, kept].max() <= rule.tube_nms):
                kept.append(n)
        order = order[kept]
    return Kept(order, torch.full_like(order, -1), score[order] ** rule.gamma)


def associate_by_label(kept: list[Kept], lesson: StudentMatches, clips: Tensor, places: Tensor) -> Pairs:
    """Through the student's own positives; an instance that a frame does not show makes no pair there.

    Row i of `kept` is clip `clips[i]` of the lesson; `places` [n, S] says which of the teacher's frames the
    student saw.
    """
    s = places.shape[1]
    rows = []
    for clip, one in enumerate(kept):
        for step in range(s):
            frame = int(clips[clip]) * s + step
            shown = lesson.valid[frame, one.instance]
            teacher, instance = one.query[shown], one.instance[shown]
            query = lesson.query[frame, instance]
            rows.append((clip, frame, places[clip, step], teacher, query, one.weight[shown]))
    return _pairs(rows)


def associate_by_prediction(
    kept: list[Kept],
    teacher: ClipQueries,
    answer: FrameQueries,
    clips: Tensor,
    places: Tensor,
    min_iou: float,
) -> Pairs:
    """Without labels: in each frame by class and mask; a pair must overlap by `min_iou` there."""
    s = places.shape[1]
    probs = answer.logits.float().sigmoid()  # [F, R, K]
    everyone = torch.arange(probs.shape[1], device=probs.device).expand(len(probs), -1)
    masks = answer.masks(everyone)
    named = teacher.logits.float().sigmoid()
    rows = []
    for clip, one in enumerate(kept):
        tubes = _tubes(teacher, clip, one.query) > 0  # [M, T, h, w]
        for step in range(s):
            frame, place = int(clips[clip]) * s + step, places[clip, step]
            theirs = _like(tubes[:, place].float(), masks) > 0.5
            iou = tube_iou(masks[frame].unsqueeze(1) > 0, theirs.unsqueeze(1).float())  # [R, M]
            alike = probs[frame] @ named[clip, one.query].T
            matched = hungarian(-iou - alike)
            good = iou[matched.query, matched.instance] >= min_iou
            m = matched.instance[good]
            rows.append((clip, frame, place, one.query[m], matched.query[good], one.weight[m]))
    return _pairs(rows)


def tube_iou(masks: Tensor, truth: Tensor) -> Tensor:
    """[Q, T, h, w] bool against [N, T, h, w] shares of cells -> [Q, N]; 0 where both are empty."""
    a, b = masks.flatten(1).float(), truth.flatten(1).float()
    shared = a @ b.T
    union = a.sum(1).unsqueeze(1) + b.sum(1) - shared
    return shared / union.clamp(min=1e-6)


def _tubes(teacher: ClipQueries, clip: int, queries: Tensor) -> Tensor:
    """Mask logits [M, T, h, w] of some queries of one clip."""
    select = queries.new_zeros(len(teacher.logits), len(queries))
    select[clip] = queries
    return teacher.masks(select)[clip]


def _truth(tracks: Tracks, like: Tensor) -> Tensor:
    """Ground-truth tubes [N, T, h, w] at the resolution of the teacher's masks."""
    return _like(tracks.masks.float(), like)


def _like(masks: Tensor, like: Tensor) -> Tensor:
    size = (like.shape[-2], like.shape[-1])
    if masks.shape[-2:] == size or not len(masks):
        return masks.new_zeros(*masks.shape[:-2], *size) if not len(masks) else masks
    flat = masks.reshape(-1, 1, *masks.shape[-2:])
    return torch.nn.functional.interpolate(flat, size, mode="area").view(*masks.shape[:-2], *size)


def _pairs(rows: list[tuple[int, int, Tensor, Tensor, Tensor, Tensor]]) -> Pairs:
    def column(value: int | Tensor, like: Tensor) -> Tensor:
        return torch.full_like(like, int(value))

    return Pairs(
        torch.cat([column(clip, teacher) for clip, _, _, teacher, _, _ in rows]),
        torch.cat([column(frame, teacher) for _, frame, _, teacher, _, _ in rows]),
        torch.cat([column(place, teacher) for _, _, place, teacher, _, _ in rows]),
        torch.cat([teacher for _, _, _, teacher, _, _ in rows]),
        torch.cat([student for _, _, _, _, student, _ in rows]),
        torch.cat([weight for *_, weight in rows]),
    )
