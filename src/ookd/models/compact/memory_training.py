"""The training of the student with a memory: rollouts over the frames of a clip.

The frame network learns as the stateless student does. Then slots go through the frames in order. All start
free, and the loss of one frame reaches earlier frames through the state. A slot keeps the object that it
started with: in every later frame it must claim the query that shows this object, or none. Objects without a
slot start one as in tracking. Slots are disturbed at random (`SlotNoise`).

Shapes: B clips, T frames, S slots, Q frame queries, N instances (padded), D width, h w a grid of cells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ookd.losses import dice, mask_bce, mask_quality, mean_over_ranks, pair_logsumexp, quality_focal
from ookd.matching import hungarian_rows
from ookd.models.compact import training as compact_training
from ookd.models.compact.encoder import PixelFeatures
from ookd.models.compact.memory import (
    SHARPNESS,
    Candidates,
    CompactMemory,
    Held,
    SlotLook,
    candidates,
    claim_queries,
    mask_places,
)
from ookd.models.compact.model import CompactQueries, peak_places
from ookd.models.compact.slot_noise import SlotNoise
from ookd.models.compact.training import CompactTraining, match_masks
from ookd.models.families import family_of
from ookd.models.parts.frame_targets import FINEST, FrameTargets, frame_targets
from ookd.models.protocols import StudentTask
from ookd.stopwatch import timed
from ookd.structures import Batch, StudentMatches

WEIGHTS: Mapping[str, float] = {
    **compact_training.WEIGHTS,
    "claim": 2.0,
    "place": 1.0,
    "memory": 1.0,
    "slot_class": 1.5,
    "slot_mask": 1.0,
    "slot_dice": 5.0,
}
SHOWS = 0.4  # mask IoU from which a query shows an instance
UNSURE = 0.1  # mask IoU below which it certainly does not
NONE, UNKNOWN = -1, -2  # for an instance: no query shows it; unclear which one does


class CompactMemoryTraining(StudentTask):
    """Batch of clips -> named loss terms, not yet weighted, of the compact student with a memory.

    With `freeze_frame` in the model's configuration the frame network stays as it is, and its own terms are
    left out.
    """

    model: CompactMemory

    def __init__(
        self, model: CompactMemory, weights: Mapping[str, float] = WEIGHTS, noise: SlotNoise | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.normalise = family_of(model).preprocessing.normalise
        self.weights = dict(weights)
        self.noise = noise or SlotNoise()
        if model.config.freeze_frame:
            model.frame.requires_grad_(False)
        self.learn_frame = None if model.config.freeze_frame else CompactTraining(model.frame)
        self.weighs_frames = self.learn_frame is not None

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.learn(batch)[0]

    def learn(self, batch: Batch) -> tuple[dict[str, Tensor], StudentMatches]:
        """The terms, and the answer of the frames' own queries, matched to the instances."""
        batch = batch.seen_by_student()
        clips, frames = batch.frames.shape[:2]
        targets = frame_targets(batch.tracks)
        losses: dict[str, Tensor] = {}
        if self.learn_frame is None:
            matches, pixels, count = self._see(batch, targets)
        else:
            losses, matches, pixels = self.learn_frame.learn_frames(batch)
            assert isinstance(matches.answer, CompactQueries)
            count = matches.answer.places.shape[1] - self.learn_frame.auxiliary
        answer = matches.answer
        assert isinstance(answer, CompactQueries)
        seen = candidates(answer, pixels, batch.pad.flatten(0, 1), count)
        truth = SlotTargets.of(seen, answer, targets, clips)
        config = self.model.config
        chance = batch.draw(frames, config.slots, 3 + config.width + config.embed)
        sums = self._roll_out(seen, truth, elapsed_frames(batch), chance)
        return losses | sums.means(), matches

    @torch.no_grad()
    def _see(self, batch: Batch, targets: FrameTargets) -> tuple[StudentMatches, PixelFeatures, int]:
        """The answer of a frame network that does not learn."""
        frames, pad = batch.frames.flatten(0, 1), batch.pad.flatten(0, 1)
        pixels = self.model.frame.encoder(self.normalise(frames, pad), pad)
        places = peak_places(pixels, self.model.config.queries)
        answer = self.model.frame.decode(pixels, places)[-1]
        matches = StudentMatches(answer, *match_masks(answer, places.shape[1], targets))
        return matches, pixels, places.shape[1]

    def _roll_out(self, seen: Candidates, truth: SlotTargets, elapsed: Tensor, chance: Tensor) -> TermSums:
        """Through the frames in order; elapsed [B, T], chance [B, T, S, 3 + D + E]."""
        clips, frames = elapsed.shape
        rows = torch.arange(clips, device=elapsed.device) * frames
        slots = self.model.free(clips)
        holds = torch.full_like(slots.number, NONE, dtype=torch.long)  # [B, S] the instance of each slot
        sums, anchors = TermSums(), []
        for t in range(frames):
            here, now = seen.at(rows + t), truth.at(t)
            look = self.model.look(slots, here, elapsed[:, t])
            wanted = now.wanted(holds)
            sums.add("claim", *claim_terms(look, wanted))
            sums.add("place", *place_terms(look, now, holds))
            anchors.append((slots.embed, holds))
            query, claimed = claim_queries(slots, here, look)
            sums.count("claimed_right", (claimed & (query == wanted))[wanted >= 0])
            query, claimed = self.noise.claims(query, claimed, chance[:, t, :, :2])
            held = self.model.hold(slots, here, query, claimed, now.unheld(holds))
            holds = now.found(holds, held)
            answer, slots = self.model.write(slots, here, look, held, elapsed[:, t])
            for name, terms in answer_terms(answer, held, holds, now).items():
                sums.add(name, *terms)
            slots = self.noise.memory(slots, chance[:, t, :, 2:])
        sums.add("memory", *memory_terms(anchors, seen, truth))
        return sums


@dataclass(slots=True)
class TermSums:
    """Loss terms as sums over the elements of a rollout, with the numbers of elements."""

    totals: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, Tensor] = field(default_factory=dict)
    reported: dict[str, list[Tensor]] = field(default_factory=dict)

    def add(self, name: str, values: Tensor, count: Tensor) -> None:
        self.totals[name] = self.totals.get(name, 0) + values.sum()
        self.counts[name] = self.counts.get(name, 0) + count.sum()

    def count(self, name: str, right: Tensor) -> None:
        """Whether something that is only reported went right."""
        self.reported.setdefault(name, []).append(right.float())

    def means(self) -> dict[str, Tensor]:
        terms = {
            name: total / mean_over_ranks(self.counts[name], total.device).clamp(min=1)
            for name, total in self.totals.items()
        }
        for name, found in self.reported.items():
            known = torch.cat(found)
            terms[name] = known.sum() / max(len(known), 1)
        return terms


@dataclass(frozen=True, slots=True)
class SlotTargets:
    """Which query shows which instance, in one frame (or, with an axis T after B, in all of a clip)."""

    labels: Tensor  # [B, N]
    visible: Tensor  # [B, N]
    query: Tensor  # [B, N] the query that shows each instance, or NONE or UNKNOWN
    instance: Tensor  # [B, Q] the instance that each query shows, or NONE
    places: Tensor  # [B, N, 3] of the true masks, as of slots
    masks: dict[int, Tensor]  # stride -> [B, N, h, w]

    @classmethod
    @timed("matcher")
    @torch.no_grad()
    def of(cls, seen: Candidates, answer: CompactQueries, targets: FrameTargets, clips: int) -> SlotTargets:
        """All frames of all clips [B, T, ...]."""
        frames, count = seen.score.shape
        everyone = torch.arange(count, device=seen.score.device).expand(frames, -1)
        found = (answer.masks_at(everyone, 4) > 0).float().flatten(2)
        true = (targets.masks[4] > 0.5).float()
        flat = true.flatten(2)
        with torch.autocast(found.device.type, enabled=False):
            shared = found @ flat.transpose(1, 2)  # [F, Q, N]
        iou = shared / (found.sum(2).unsqueeze(2) + flat.sum(2).unsqueeze(1) - shared).clamp(min=1)
        iou = iou * seen.distinct.unsqueeze(2)
        query, _ = hungarian_rows(-iou, targets.valid)
        best = iou.gather(1, query.unsqueeze(1)).squeeze(1)  # [F, N]
        shows = targets.valid & (best >= SHOWS)
        unsure = targets.valid & (iou.amax(1) >= UNSURE)
        instance = torch.full_like(everyone, NONE)
        frame, which = shows.nonzero(as_tuple=True)
        instance[frame, query[frame, which]] = which
        query = torch.where(shows, query, torch.where(unsure, UNKNOWN, NONE))
        cell = seen.extent[:, 1] / true.shape[-2]
        of_frames = cls(
            targets.labels, targets.valid, query, instance, mask_places(true, cell), targets.masks
        )
        return of_frames._each(lambda x: x.unflatten(0, (clips, -1)))

    def at(self, t: int) -> SlotTargets:
        """One frame of each clip."""
        return self._each(lambda x: x[:, t])

    def _each(self, change: Callable[[Tensor], Tensor]) -> SlotTargets:
        return SlotTargets(
            change(self.labels),
            change(self.visible),
            change(self.query),
            change(self.instance),
            change(self.places),
            {stride: change(x) for stride, x in self.masks.items()},
        )

    def wanted(self, holds: Tensor) -> Tensor:
        """The query [B, S] that slots with these instances should claim; UNKNOWN if it is unclear."""
        query = self.query.gather(1, holds.clamp(min=0))
        return torch.where(holds == NONE, UNKNOWN, query)

    def found(self, holds: Tensor, held: Held) -> Tensor:
        """The instances [B, S] of the slots after a frame.

        A slot that began from what shows no instance gets one when it claims what shows one that is free.
        """
        shown = self.instance.gather(1, held.query)
        free = self.unheld(holds).gather(1, held.query)
        late = held.claimed & (holds == NONE) & free
        return torch.where(held.born | late, shown, holds)

    def unheld(self, holds: Tensor) -> Tensor:
        """The queries [B, Q] that show no instance that a slot holds already."""
        held = (self.instance.unsqueeze(2) == holds.unsqueeze(1)).any(2)
        return ~held | (self.instance == NONE)


def elapsed_frames(batch: Batch) -> Tensor:
    """[B, T] how many frames of the video each frame is after the one before; 1 where that is unknown."""
    clips, frames = batch.frames.shape[:2]
    elapsed = torch.ones(clips, frames)
    for row, origin in zip(elapsed, batch.origins, strict=False):
        row[1:] = torch.from_numpy(origin.frames).diff().clamp(min=1)
    return elapsed.to(batch.frames.device)


def claim_terms(look: SlotLook, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the query that each slot should claim, or of "none shows it"."""
    known = wanted != UNKNOWN
    none = look.likely.shape[-1] - 1
    target = torch.where(wanted == NONE, none, wanted)
    return F.cross_entropy(look.likely[known], target[known], reduction="none"), known


def place_terms(look: SlotLook, now: SlotTargets, holds: Tensor) -> tuple[Tensor, Tensor]:
    """How far, in object sizes, the object of a slot is from where the slot thinks it is.

    The size is that in view or, if most of the object is covered, the one that the slot remembers.
    """
    which = holds.clamp(min=0)
    known = (holds != NONE) & now.visible.gather(1, which)
    true = now.places.take_along_dim(which.unsqueeze(-1), 1)[known]
    thought = look.expected[known]
    size = torch.maximum(thought[:, 2:], true[:, 2:])
    away = (thought - true)[:, :2] / size.clamp(min=1e-2)
    return F.smooth_l1_loss(away, torch.zeros_like(away), reduction="none", beta=0.5), known


def answer_terms(
    answer: CompactQueries, held: Held, holds: Tensor, now: SlotTargets
) -> dict[str, tuple[Tensor, Tensor]]:
    """Class and mask of what the slots claim. What is not a slot's own object should have no class there."""
    wanted = now.wanted(holds)
    right = held.claimed & (held.query == wanted)
    clip, slot = right.nonzero(as_tuple=True)
    which = holds[clip, slot]
    everyone = torch.arange(holds.shape[1], device=holds.device).expand(len(holds), -1)
    masks = answer.masks_at(everyone, FINEST)[clip, slot]
    truth = now.masks[FINEST][clip, which]
    quality = torch.zeros_like(answer.logits)
    quality[clip, slot, now.labels[clip, which]] = mask_quality(masks, truth)
    judged = held.claimed & ((wanted != UNKNOWN) | (holds == NONE))
    return {
        "slot_class": (quality_focal(answer.logits, quality)[judged], right),
        "slot_mask": (mask_bce(masks, truth), right),
        "slot_dice": (dice(masks, truth), right),
    }


def memory_terms(
    anchors: list[tuple[Tensor, Tensor]], seen: Candidates, truth: SlotTargets
) -> tuple[Tensor, Tensor]:
    """What a slot remembers must be nearer to its object, in this and all later frames, than to any other.

    `anchors` are the embeddings [B, S, E] before each frame and the instances [B, S] of the slots. The other
    objects are those of all frames and all clips.
    """
    clips, frames, instances = truth.query.shape
    remembered = torch.stack([embed for embed, _ in anchors], 1)  # [B, T, S, E]
    holds = torch.stack([instance for _, instance in anchors], 1)  # [B, T, S]
    clip, time, slot = (holds != NONE).nonzero(as_tuple=True)
    key = clip * instances + holds[clip, time, slot]
    b, t, which = (truth.query >= 0).nonzero(as_tuple=True)
    looks = seen.unit.unflatten(0, (clips, frames))[b, t, truth.query[b, t, which]]
    same = key.unsqueeze(1) == b * instances + which
    with torch.autocast(looks.device.type, enabled=False):
        cosine = remembered[clip, time, slot] @ looks.T
    later = t >= time.unsqueeze(1)
    values = pair_logsumexp(SHARPNESS * cosine, same & later, ~same)
    return values, torch.ones_like(key)
