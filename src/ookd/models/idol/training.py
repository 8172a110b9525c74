"""How IDOL learns to detect in a key frame, and to recognise what it detected in another frame.

Every decoder layer's answer for the key frame is matched to the instances on its own, several queries to
each. The best query of an instance must then find, by its embedding, the queries that show the instance in
the reference frame, which is supervised by nothing else.

Wu et al., "In Defense of Online Models for Video Instance Segmentation", ECCV 2022, with the normalisers of
the released program.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ookd.errors import UserError
from ookd.losses import Sample, cosine_aux, pair_logsumexp, stride4
from ookd.matching import Match, contrast_sets, match_frame
from ookd.models.families import family_of
from ookd.models.idol.matches import lesson
from ookd.models.idol.model import Idol
from ookd.models.parts.detection_losses import WEIGHTS as DETECTION_WEIGHTS
from ookd.models.parts.detection_losses import Targets, detection_terms, name_layers
from ookd.models.parts.placed_queries import WEIGHTS as PLACED_WEIGHTS
from ookd.models.parts.placed_queries import place_auxiliary, term_weights
from ookd.models.protocols import StudentTask
from ookd.structures import Batch, FrameQueries, StudentMatches, Tracks

WEIGHTS: Mapping[str, float] = {**DETECTION_WEIGHTS, "embed": 2.0, "embed_aux": 3.0, **PLACED_WEIGHTS}


@dataclass(slots=True)
class VisibleInstances:
    """Instances of one clip that the key frame shows, and where they are in the reference frame."""

    tracks: Tracks  # N, T = 1
    targets: Targets
    again: Tensor  # [N] bool: the reference frame shows the instance too
    boxes_again: Tensor  # [N, 4]


class IdolTraining(StudentTask):
    """Frame pairs, key first -> named loss terms, unweighted. Single frames teach detection alone."""

    model: Idol

    def __init__(
        self, model: Idol, weights: Mapping[str, float] = WEIGHTS, rng: random.Random | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.normalise = family_of(model).preprocessing.normalise
        self.weights = term_weights(weights, model.config, last_only=("embed", "embed_aux"))
        self.sample: Sample = (rng or random).sample  # draws the negatives of `embed_aux`

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self._learn(batch, masks=False)[0]

    def learn(self, batch: Batch) -> tuple[dict[str, Tensor], StudentMatches]:
        """The terms, and what the student answered for the frames it saw."""
        terms, answers = self._learn(batch, masks=True)
        return terms, lesson(batch, frame_places(batch), answers)

    def _learn(self, batch: Batch, masks: bool) -> tuple[dict[str, Tensor], list[FrameQueries]]:
        """The terms, and the last layer's answer for key and reference; `masks`: the latter's can be asked
        for."""
        places = frame_places(batch)
        seen = [seen_instances(batch, clip, place) for clip, place in enumerate(places.tolist())]
        key, terms = self._look_and_learn(batch, places[:, 0], seen)
        layers, best = zip(*(frame_terms(answer, seen) for answer in key), strict=True)
        terms |= name_layers(layers)
        if places.shape[1] == 2:
            reference = self.model.layers(*self._inputs(batch, places[:, 1]), masks=masks)[-1]
            terms |= contrast_terms(key[-1], reference, seen, best[-1], self.sample)
            return terms, [key[-1], reference]
        return terms, [key[-1]]

    def _look_and_learn(
        self, batch: Batch, place: Tensor, seen: list[VisibleInstances]
    ) -> tuple[list[FrameQueries], dict[str, Tensor]]:
        """The model's answers for one frame [B] of every clip, and what only placed queries learn from it."""
        frames, pad = self._inputs(batch, place)
        if self.model.config.start == "learned":
            return self.model.layers(frames, pad), {}
        memory = self.model.pixels(frames, pad)
        auxiliary = place_auxiliary(batch, [x.tracks for x in seen], self.model.config.auxiliary)
        start = self.model.decoder.start(memory, extra=auxiliary.cells)
        answers = self.model.decode(memory, pad, start=start)
        targets = [x.targets for x in seen]
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


def seen_instances(batch: Batch, clip: int, places: list[int]) -> VisibleInstances:
    """What the key frame of a clip shows; instances that only the reference frame shows are left out."""
    tracks, key, reference = batch.tracks[clip], places[0], places[-1]
    shown = tracks.visible[:, key]
    now = Tracks(
        tracks.labels[shown],
        tracks.ids[shown],
        tracks.boxes[shown, key : key + 1],
        tracks.masks[shown, key : key + 1],
        tracks.visible[shown, key : key + 1],
    )
    return VisibleInstances(
        now,
        Targets(now.labels, now.boxes, stride4(now.masks)),
        tracks.visible[shown, reference],
        tracks.boxes[shown, reference],
    )


def frame_terms(answer: FrameQueries, seen: list[VisibleInstances]) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Detection terms of one decoder layer, and each instance's best query [N] in every frame.

    Terms are divided by the number of matched queries in this process's frames, not by that of instances.
    """
    assert answer.boxes is not None
    targets = [x.targets for x in seen]
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
    answer: FrameQueries, matches: list[Match], count: Tensor | float, targets: list[Targets]
) -> dict[str, Tensor]:
    """Detection terms of one decoder layer, its frames taken for clips of length 1."""
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
    seen: list[VisibleInstances],
    best: list[Tensor],
    sample: Sample,
) -> dict[str, Tensor]:
    """Each instance's embedding in the key frame against all queries of the reference frame.

    Raw dot products and cosines, in float32 whatever the model runs in; means over the instances that are in
    both frames, 0 if there is none.
    """
    assert reference.boxes is not None
    embed, aux = [], []
    with torch.autocast(key.logits.device.type, enabled=False):
        for clip, x in enumerate(seen):
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
