"""What goes wrong with slots in training, so that they learn to recover from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ookd.models.compact.slots import TrackSlots


@dataclass(frozen=True, slots=True)
class SlotNoise:
    """How often a slot is wronged in a frame, and how much."""

    drop: float = 0.1  # it misses its object, which must be found again later
    swap: float = 0.05  # two slots remember each other's query
    blur: float = 0.1  # what it remembers is disturbed
    strength: float = 0.5  # of the disturbance, relative to what is disturbed

    def claims(self, query: Tensor, claimed: Tensor, chance: Tensor) -> tuple[Tensor, Tensor]:
        """Claims [B, S] of which some are dropped and some pairs swapped; chance [B, S, 2] in 0..1."""
        claimed = claimed & (chance[..., 0] >= self.drop)
        place = torch.arange(query.shape[1], device=query.device)
        other = (place ^ 1).clamp(max=query.shape[1] - 1)  # neighbours make a pair
        lot = torch.minimum(chance[..., 1], chance[:, other, 1])  # the same for both
        swapped = claimed & claimed[:, other] & (lot < self.swap / 2)
        return torch.where(swapped, query[:, other], query), claimed

    def memory(self, slots: TrackSlots, chance: Tensor) -> TrackSlots:
        """Slots of which some remember their object badly; chance [B, S, 1 + D + E] in 0..1."""
        some = (chance[..., :1] < self.blur).float()
        noise = self.strength * some * math.sqrt(12) * (chance[..., 1:] - 0.5)  # deviation 1 before scaling
        width = slots.query.shape[-1]
        query, embed = noise.split([width, slots.embed.shape[-1]], -1)
        embed = slots.embed + embed * slots.embed.shape[-1] ** -0.5
        return replace(slots, query=slots.query + query, embed=F.normalize(embed, dim=-1))
