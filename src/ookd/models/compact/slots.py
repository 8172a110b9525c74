"""Track slots: the state that the compact student with a memory carries from frame to frame.

A slot holds one object: its appearance, position and speed, and for how long it was not seen. In a frame it
claims the query that shows its object, or none. A query that no slot claims may start a new object in a free
slot, or else in the one that was unseen for longest.

Places are centre x, y and side (root of the area) of a mask, in frame heights, whatever the padding.

Shapes: B streams, S slots, Q frame queries, D width, E embedding.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ookd.models.protocols import State

ROUNDS = 6  # of claiming; one round settles all undisputed claims
LONGEST = 4096.0  # frames out of sight; more count as these. A free slot counts as unseen for twice as long
COASTING = 3.0  # frames for which an object is thought to keep its speed
SLOWING = 0.5  # share of the speed that is left after each frame out of sight


@dataclass(frozen=True, slots=True)
class TrackSlots:
    """The slots of B streams. All fields together are the model's state."""

    query: Tensor  # [B, S, D] the slot's memory of its object
    embed: Tensor  # [B, S, E] what it recognises it by, of length one
    place: Tensor  # [B, S, 3] where it is thought to be
    velocity: Tensor  # [B, S, 2] frame heights a frame
    unseen: Tensor  # [B, S] frames since it was seen
    seen: Tensor  # [B, S] frames that showed it; 0: the slot is free
    number: Tensor  # [B, S] which object of the stream it is; -1: none
    begun: Tensor  # [B] objects so far

    @classmethod
    def free(cls, streams: int, slots: int, width: int, embed: int, like: Tensor) -> TrackSlots:
        """Slots that hold nothing."""

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(streams, *shape, dtype=torch.float32, device=like.device)

        return cls(
            zeros(slots, width),
            zeros(slots, embed),
            zeros(slots, 3),
            zeros(slots, 2),
            zeros(slots),
            zeros(slots),
            zeros(slots) - 1,
            zeros(),
        )

    @classmethod
    def of_state(cls, state: State) -> TrackSlots:
        return cls(**state)

    @property
    def state(self) -> State:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def taken(self) -> Tensor:
        """[B, S] which slots hold an object."""
        return self.seen > 0

    def expected(self, elapsed: Tensor) -> Tensor:
        """Expected positions of the objects [B, S, 3] after `elapsed` [B] frames."""
        moved = self.velocity * elapsed.clamp(max=COASTING)[:, None, None]
        return self.place + F.pad(moved, (0, 1))

    def moved(self, expected: Tensor, found: Tensor, there: Tensor, elapsed: Tensor) -> TrackSlots:
        """The same with new places and speeds: those `there` [B, S] at `found`, the others as `expected`.

        The first movement seen is the speed; later it is corrected by half of the error.
        """
        gap = (self.unseen + elapsed[:, None]).unsqueeze(-1)
        share = torch.where(self.seen > 1, 0.5, 1.0).unsqueeze(-1)
        corrected = self.velocity + share * (found - expected)[..., :2] / gap
        slowed = self.velocity * SLOWING ** elapsed[:, None, None]
        seen = there.unsqueeze(-1)
        return replace(
            self,
            place=torch.where(seen, found, expected),
            velocity=torch.where(seen, corrected, slowed),
            unseen=torch.where(there, 0.0, self.unseen + elapsed[:, None]),
            seen=self.seen + there.float(),
        )


@torch.no_grad()
def claim(margin: Tensor) -> tuple[Tensor, Tensor]:
    """The query that each slot claims and whether it claims any, both [B, S]; no query is claimed twice.

    margin [B, S, Q] is a slot's preference for a query over none. The largest goes first: a slot gets its
    preferred query once no other slot has a larger margin for it. Margins of 0 and below claim nothing.
    """
    b, s, q = margin.shape
    slot = torch.arange(s, device=margin.device)
    choice = torch.zeros(b, s, dtype=torch.long, device=margin.device)
    claims = torch.zeros(b, s, dtype=torch.bool, device=margin.device)
    for _ in range(ROUNDS):
        most, best = margin.max(2)
        agreed = (margin.argmax(1).gather(1, best) == slot) & (most > 0)
        choice = torch.where(agreed, best, choice)
        claims = claims | agreed
        given = (F.one_hot(best, q) * agreed.unsqueeze(2)).bool()  # [B, S, Q]
        margin = margin.masked_fill(agreed.unsqueeze(2) | given.any(1, keepdim=True), -torch.inf)
    return choice, claims


@torch.no_grad()
def give_births(worth: Tensor, slots: TrackSlots, busy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """New objects for slots that are not `busy` [B, S]: free ones first, then those unseen for longest.

    worth [B, Q] is the score of each query that may begin an object, and 0 for the others. The best come
    first. Returns the query of each slot, whether an object begins there, and its number, all [B, S].
    """
    count = min(worth.shape[1], busy.shape[1])
    score, query = worth.topk(count)
    order = torch.arange(busy.shape[1], device=busy.device) / (2 * busy.shape[1])  # first ones first
    idle = torch.where(slots.taken, slots.unseen.clamp(max=LONGEST), 2 * LONGEST) + 1 - order
    room, slot = idle.masked_fill(busy, 0.0).topk(count)
    begins = (score > 0) & (room > 0)
    number = slots.begun.unsqueeze(1) + begins.float().cumsum(1) - 1
    nothing = torch.zeros_like(busy, dtype=torch.long)
    return (
        nothing.scatter(1, slot, query),
        nothing.scatter(1, slot, begins.long()) > 0,
        nothing.float().scatter(1, slot, number),
    )


@torch.no_grad()
def distinct(masks: Tensor, score: Tensor, limit: float) -> Tensor:
    """Which of the queries [B, Q] are not a weaker copy of another; masks [B, Q, S] of 0 and 1.

    As in greedy suppression, a copy overlaps a better query that is no copy itself by more than `limit`.
    """
    with torch.autocast(masks.device.type, enabled=False):  # counts must be exact
        shared = masks @ masks.transpose(1, 2)
    area = masks.sum(2)
    union = area.unsqueeze(2) + area.unsqueeze(1) - shared
    order = torch.arange(score.shape[1], device=score.device)
    first = (score.unsqueeze(2) == score.unsqueeze(1)) & (order.unsqueeze(1) > order)
    better = (score.unsqueeze(2) < score.unsqueeze(1)) | first  # [B, Q, Q] the second is
    beaten = (better & (shared > limit * union)).float()
    kept = torch.ones_like(score)
    for _ in range(ROUNDS):
        kept = ((beaten @ kept.unsqueeze(2)).squeeze(2) == 0).float()
    return kept > 0
