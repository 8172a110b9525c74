"""The training of IDOL: detection in a key frame, and recognition in a reference frame.

Each decoder layer's answer for the key frame is matched to the instances separately, several queries to each
instance. The embedding of an instance's best query must then select the queries that show the instance in the
reference frame, which has no other supervision.

Wu et al., "In Defense of Online Models for Video Instance Segmentation", ECCV 2022, with the normalisers of
the released program.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ookd.errors import UserError
from ookd.losses import DrawSample, cosine_aux, pair_logsumexp, stride4
from ookd.matching import Match, contrast_sets, match_frame
from ookd.models.families import family_of
from ookd.models.idol.model import Idol
from ookd.models.parts.detection_losses import WEIGHTS as DETECTION_WEIGHTS
from ookd.models.parts.detection_losses import ClipTargets, detection_terms, name_layers, over_frames
from ookd.models.parts.placed_queries import WEIGHTS as PLACED_WEIGHTS
from ookd.models.parts.placed_queries import place_auxiliary, term_weights
from ookd.models.protocols import StudentTask
from ookd.structures import Batch, FrameQueries, StudentMatches, Tracks

WEIGHTS: Mapping[str, float] = {**DETECTION_WEIGHTS, "embed": 2.0, "embed_aux": 3.0, **PLACED_WEIGHTS}


@dataclass(slots=True)
class VisibleInstances:
    """The instances of one clip that the key frame shows."""

    tracks: Tracks  # N, T = 1
    targets: ClipTargets
    again: Tensor  # [N] bool: the reference frame shows the instance too
    boxes_again: Tensor  # [N, 4]


class IdolTraining(StudentTask):
    """Frame pairs, the key frame first -> named loss terms. Single frames train detection only."""

    model: Idol

    def __init__(
        self, model: Idol, weights: Mapping[str, float] = WEIGHTS, rng: random.Random | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.normalise = family_of(model).preprocessing.normalise
        self.weights = term_weights(weights, model.config, last_only=("embed", "embed_aux"))
        self.sample: DrawSample = (rng or random).sample  # draws the negatives of `embed_aux`

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self._learn(batch, masks=False)[0]

    def learn(self, batch: Batch) -> tuple[dict[str, Tensor], StudentMatches]:
        """The terms, and the student's answer for its frames, matched to the instances."""
        terms, answers = self._learn(batch, masks=True)
        return terms, student_matches(batch, frame_places(batch), answers)

    def _learn(self, batch: Batch, masks: bool) -> tuple[dict[str, Tensor], list[FrameQueries]]:
        """The terms, and the last layer's answers for the key and the reference frame.

        With `masks`, the answer for the reference frame has masks too.
        """
        places = frame_places(batch)
        visible = [visible_instances(batch, clip, place) for clip, place in enumerate(places.tolist())]
        key, terms = self._key_frame(batch, places[:, 0], visible)
        layers, best = zip(*(frame_terms(answer, visible) for answer in key), strict=True)
        terms |= name_layers(layers)
        if places.shape[1] == 2:
            reference = self.model.layers(*self._inputs(batch, places[:, 1]), masks=masks)[-1]
            terms |= contrast_terms(key[-1], reference, visible, best[-1], self.sample)
            return terms, [key[-1], reference]
        return terms, [key[-1]]

    def _key_frame(
        self, batch: Batch, place: Tensor, visible: list[VisibleInstances]
    ) -> tuple[list[FrameQueries], dict[str, Tensor]]:
        """The model's answers for the key frame [B] of every clip, and the terms of placed queries."""
        frames, pad = self._inputs(batch, place)
        if self.model.config.start == "learned":
            return self.model.layers(frames, pad), {}
        memory = self.model.pixels(frames, pad)
        auxiliary = place_auxiliary(batch, [x.tracks for x in visible], self.model.config.auxiliary)
        start = self.model.decoder.start(memory, extra=auxiliary.cells)
        answers = self.model.decode(memory, pad, start=start)
        targets = [x.targets for x in visible]
        terms = auxiliary.terms(start.heat, answers, partial(detect, targets=targets))
        return auxiliary.main(answers), terms

    def _inputs(self, batch: Batch, place: Tensor) -> tuple[Tensor, Tensor]:
        """One frame [B] of every clip, and its padding."""
        clip = torch.arange(len(place), device=place.device)
        frames, pad = batch.frames[clip, place], batch.pad[clip, place]
        return self.normalise(frames, pad), pad


def frame_places(batch: Batch) -> Tensor:
    """Which frames of its clip the student sees [B, 1 or 2], the key frame first."""
    clips, frames = batch.frames.shape[:2]
    places = batch.student
    if places is None:
        places = torch.arange(frames, device=batch.frames.device).expand(clips, -1)
    given = places.shape[1]
    if given not in (1, 2):
        raise UserError(
            f"IDOL learns from pairs of frames, not from {given} frames: set data.frames to pairs"
        )
    return places


def visible_instances(batch: Batch, clip: int, places: list[int]) -> VisibleInstances:
    """The instances in the key frame of a clip. Those that only the reference frame shows are left out."""
    tracks, key, reference = batch.tracks[clip], places[0], places[-1]
    shown = tracks.visible[:, key]
    now = Tracks(
        tracks.labels[shown],
        tracks.ids[shown],
        tracks.boxes[shown, key : key + 1],
        tracks.masks[shown, key : key + 1],
        tracks.visible[shown, key : key + 1],
        None if tracks.ignore is None else tracks.ignore[key : key + 1],
    )
    ignore = over_frames(now.ignore, batch.pad[clip, key : key + 1])
    return VisibleInstances(
        now,
        ClipTargets(now.labels, now.boxes, stride4(now.masks), ignore),
        tracks.visible[shown, reference],
        tracks.boxes[shown, reference],
    )


def frame_terms(
    answer: FrameQueries, visible: list[VisibleInstances]
) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Detection terms of one decoder layer, and each instance's best query [N] in every frame.

    Terms are divided by the number of matched queries in this process, not by the number of instances.
    """
    assert answer.boxes is not None
    targets = [x.targets for x in visible]
    matches, best = zip(
        *(
            match_frame(logits, boxes, target.labels, target.boxes[:, 0])
            for logits, boxes, target in zip(answer.logits, answer.boxes, targets, strict=True)
        ),
        strict=True,
    )
    count = max(sum(len(match.query) for match in matches), 1)
    return detect(answer, list(matches), count, targets), list(best)


def detect(
    answer: FrameQueries, matches: list[Match], count: Tensor | float, targets: list[ClipTargets]
) -> dict[str, Tensor]:
    """Detection terms of one decoder layer, with frames as clips of length 1."""
    assert answer.boxes is not None
    return detection_terms(
        answer.logits,
        answer.boxes.unsqueeze(1),
        lambda select: answer.masks(select).unsqueeze(2),
        targets,
        matches,
        count,
    )


def contrast_terms(
    key: FrameQueries,
    reference: FrameQueries,
    visible: list[VisibleInstances],
    best: list[Tensor],
    sample: DrawSample,
) -> dict[str, Tensor]:
    """Each instance's embedding in the key frame against all queries of the reference frame.

    Raw dot products and cosines, always in float32; means over the instances that are in both frames, 0 if
    there are none.
    """
    assert reference.boxes is not None
    embed, aux = [], []
    with torch.autocast(key.logits.device.type, enabled=False):
        for clip, x in enumerate(visible):
            positive, negative = contrast_sets(
                reference.logits[clip],
                reference.boxes[clip],
                x.targets.labels[x.again],
                x.boxes_again[x.again],
            )
            keys = key.embed[clip, best[clip][x.again]].float()  # [N, D]
            others = reference.embed[clip].float()  # [Q, D]
            embed.append(pair_logsumexp(keys @ others.T, positive, negative))
            aux.append(cosine_aux(keys, others, positive, negative, sample))
    terms = {"embed": torch.cat(embed), "embed_aux": torch.cat(aux)}  # [N] over all clips
    return {name: term.sum() / max(len(term), 1) for name, term in terms.items()}


def student_matches(batch: Batch, places: Tensor, answers: Sequence[FrameQueries]) -> StudentMatches:
    """The answers for the student's S frames of every clip, matched to the instances; `places` [B, S].

    Of the queries that are matched to an instance, the best one counts.
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
    return StudentMatches(_join(answers), query, valid)


def _join(answers: Sequence[FrameQueries]) -> FrameQueries:
    """Answers for one frame of every clip each, as one answer for all frames, clip after clip."""

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
