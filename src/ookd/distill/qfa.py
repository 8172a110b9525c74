"""Query filtering and association: which teacher queries know exactly one instance, and which student query
should learn it.

A clip teacher emits far more queries than there are objects. Distilling from the rest teaches noise, so a
query is kept only if it names the right class and covers the right tube, and only in the frames in which its
mask is right. What is kept goes to the student query that stands for the same instance in a frame.

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
class TeacherMatches:
    """The best teacher query for each track of a clip, one row each, and how good it is."""

    query: Tensor  # [N] index into the teacher's Q queries
    instance: Tensor  # [N] index into the clip's tracks
    score: Tensor  # [N] of its best class
    right_class: Tensor  # [N] bool: the best class is the track's
    iou: Tensor  # [N] overlap of the tubes
    frame_iou: Tensor  # [N, T] overlap in each frame; 0 where neither is there


@dataclass(frozen=True, slots=True)
class KeptQueries:
    """Teacher queries of one clip that passed the filter, one row each. There may be none."""

    query: Tensor  # [M] index into the teacher's Q queries
    instance: Tensor  # [M] index into the clip's tracks; -1 where labels were not used
    weight: Tensor  # [M] in (0, 1], how much to trust the row
    matches: TeacherMatches | None = None  # the candidates; None where labels were not used
    frames: Tensor | None = None  # [M, T] bool, in which frames to trust the row; None: in all


@dataclass(frozen=True, slots=True)
class QueryPairs:
    """The same instance as the teacher knows it and as the student sees it in one frame, one row a pair."""

    clip: Tensor  # [P] row of the teacher's answer
    frame: Tensor  # [P] row of the student's B * S frames
    place: Tensor  # [P] which of the teacher's T frames that is
    teacher: Tensor  # [P] teacher query
    student: Tensor  # [P] student query
    weight: Tensor  # [P]

    def __len__(self) -> int:
        return len(self.clip)


def keep(teacher: ClipQueries, tracks: list[Tracks], rule: Filter) -> list[KeptQueries]:
    """The teacher queries of each clip that carry knowledge, as the rule says."""
    if rule.kind == "exact":
        return [keep_exact(match_teacher(teacher, clip, one), rule) for clip, one in enumerate(tracks)]
    return [keep_sure(teacher, clip, rule) for clip in range(len(tracks))]


def match_teacher(teacher: ClipQueries, clip: int, tracks: Tracks) -> TeacherMatches:
    """Match each track to its best teacher query, by tube overlap and class score together."""
    probs = teacher.logits[clip].float().sigmoid()  # [Q, K]
    masks = _tubes(teacher, clip, torch.arange(len(probs), device=probs.device))  # [Q, T, h, w]
    truth = _resize(tracks.masks.float(), masks)  # [N, T, h, w]
    iou = tube_iou(masks > 0, truth)  # [Q, N]
    matched = hungarian(-iou - probs[:, tracks.labels])
    pairs = (masks[matched.query] > 0).flatten(0, 1), truth[matched.instance].flatten(0, 1)
    frame_iou = pair_iou(*pairs).view(len(matched.query), masks.shape[1])
    score, label = probs[matched.query].max(-1)
    right_class = label == tracks.labels[matched.instance]
    tubes = iou[matched.query, matched.instance]
    return TeacherMatches(*matched, score, right_class, tubes, frame_iou)


def keep_exact(matches: TeacherMatches, rule: Filter) -> KeptQueries:
    """Drop matches that are not exact, and of the others the frames in which they are not."""
    exact = matches.right_class & (matches.iou >= rule.min_iou) & (matches.score >= rule.min_score)
    weight = (matches.score * matches.iou) ** rule.gamma
    frames = matches.frame_iou[exact] >= rule.min_frame_iou
    return KeptQueries(matches.query[exact], matches.instance[exact], weight[exact], matches, frames)


def keep_sure(teacher: ClipQueries, clip: int, rule: Filter) -> KeptQueries:
    """Without labels: the surest queries, except those whose tube repeats that of a surer one.

    The kind "none" keeps all queries.
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
    return KeptQueries(order, torch.full_like(order, -1), score[order] ** rule.gamma)


def associate_by_label(
    kept: list[KeptQueries], student: StudentMatches, clips: Tensor, places: Tensor
) -> QueryPairs:
    """Pair through the student's own positives.

    An instance makes no pair in a frame that does not show it, or in which the teacher's mask is wrong.

    Row i of `kept` is clip `clips[i]` of the student's batch; `places` [n, S] says which of the teacher's
    frames the student saw.
    """
    steps = places.shape[1]
    rows = []
    for clip, one in enumerate(kept):
        for step in range(steps):
            frame, place = int(clips[clip]) * steps + step, int(places[clip, step])
            shown = student.valid[frame, one.instance]
            if one.frames is not None:
                shown = shown & one.frames[:, place]
            teacher, instance = one.query[shown], one.instance[shown]
            query = student.query[frame, instance]
            rows.append((clip, frame, place, teacher, query, one.weight[shown]))
    return _pairs(rows)


def associate_by_prediction(
    kept: list[KeptQueries],
    teacher: ClipQueries,
    student: FrameQueries,
    clips: Tensor,
    places: Tensor,
    min_iou: float,
) -> QueryPairs:
    """Pair by class and mask in each frame, without labels. A pair must overlap by `min_iou` there."""
    steps = places.shape[1]
    probs = student.logits.float().sigmoid()  # [F, R, K]
    every = torch.arange(probs.shape[1], device=probs.device).expand(len(probs), -1)
    masks = student.masks(every)
    teacher_probs = teacher.logits.float().sigmoid()
    rows = []
    for clip, one in enumerate(kept):
        tubes = _tubes(teacher, clip, one.query) > 0  # [M, T, h, w]
        for step in range(steps):
            frame, place = int(clips[clip]) * steps + step, int(places[clip, step])
            teacher_masks = _resize(tubes[:, place].float(), masks) > 0.5
            iou = tube_iou(masks[frame].unsqueeze(1) > 0, teacher_masks.unsqueeze(1).float())  # [R, M]
            similarity = probs[frame] @ teacher_probs[clip, one.query].T
            matched = hungarian(-iou - similarity)
            good = iou[matched.query, matched.instance] >= min_iou
            row = matched.instance[good]
            rows.append((clip, frame, place, one.query[row], matched.query[good], one.weight[row]))
    return _pairs(rows)


def tube_iou(masks: Tensor, truth: Tensor) -> Tensor:
    """[Q, T, h, w] bool against [N, T, h, w] shares of cells -> [Q, N]; 0 where both are empty."""
    a, b = masks.flatten(1).float(), truth.flatten(1).float()
    shared = a @ b.T
    union = a.sum(1).unsqueeze(1) + b.sum(1) - shared
    return shared / union.clamp(min=1e-6)


def pair_iou(masks: Tensor, truth: Tensor) -> Tensor:
    """[P, ...] bool against shares of cells [P, ...] -> [P]; 0 where both are empty."""
    a, b = masks.flatten(1).float(), truth.flatten(1).float()
    shared = (a * b).sum(1)
    return shared / (a.sum(1) + b.sum(1) - shared).clamp(min=1e-6)


def _tubes(teacher: ClipQueries, clip: int, queries: Tensor) -> Tensor:
    """Mask logits [M, T, h, w] of some queries of one clip."""
    select = queries.new_zeros(len(teacher.logits), len(queries))
    select[clip] = queries
    return teacher.masks(select)[clip]


def _resize(masks: Tensor, like: Tensor) -> Tensor:
    """Masks [..., H, W], as shares of cells, at the resolution of other masks."""
    size = like.shape[-2:]
    if not len(masks):
        return masks.new_zeros(*masks.shape[:-2], *size)
    if masks.shape[-2:] == size:
        return masks
    flat = masks.reshape(-1, 1, *masks.shape[-2:])
    return torch.nn.functional.interpolate(flat, size, mode="area").view(*masks.shape[:-2], *size)


def _pairs(rows: list[tuple[int, int, int, Tensor, Tensor, Tensor]]) -> QueryPairs:
    """One table from (clip, frame, place, teacher [p], student [p], weight [p]) of each frame."""
    clip, frame, place, teacher, student, weight = zip(*rows, strict=True)
    counts = torch.tensor([len(queries) for queries in teacher])

    def column(values: tuple[int, ...]) -> Tensor:
        return torch.tensor(values).repeat_interleave(counts).to(teacher[0].device)

    return QueryPairs(
        column(clip), column(frame), column(place), torch.cat(teacher), torch.cat(student), torch.cat(weight)
    )
