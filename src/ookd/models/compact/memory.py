"""The compact student with a memory: it carries track slots from frame to frame.

The frame's own queries are those of the stateless student, untouched. Slots start from their memory, at the
expected position of their object. In each layer they attend to the frame's queries, to the pixels under their
own mask, and to one another. Then each claims the query that shows its object, or none because it is hidden.
A slot's answer is the claimed query with a learned correction, and a gate decides how much of it enters the
memory.

All learned changes start at zero: before training, slots claim by appearance and nearness as a tracker would,
and a slot's answer is the claimed query's, with its mask, class and place.

Shapes: B streams, S slots, Q frame queries, K classes, D width, E embedding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ookd.models.compact.attention import Attention
from ookd.models.compact.config import CompactConfig
from ookd.models.compact.encoder import PixelFeatures
from ookd.models.compact.model import Compact, CompactQueries, PixelAttention, mask_focus, peak_places
from ookd.models.compact.slots import TrackSlots, claim, distinct, give_births
from ookd.models.parts.feed_forward import FeedForward
from ookd.models.preprocess import unpadded_sizes
from ookd.models.protocols import OnlineModel, State
from ookd.structures import FrameQueries

SHARPNESS = 20.0  # factor of the cosines between embeddings, as in the tracker
NEARNESS = 2.0  # taken off for each object size between a query and where the object should be
FAR = 2.0  # object sizes: larger distances count as this one
SAME = 0.6  # cosine at which a slot is undecided before training
COPY = 0.5  # mask overlap above which the weaker of two queries is a copy
NEVER = -1e4  # attention to a free slot
HIDDEN = -20.0  # class logits of a slot whose object is not in view
LEAST = 1e-3  # score below which a slot does not distinguish queries


class CompactMemoryConfig(CompactConfig):
    family: Literal["compact-memory"] = "compact-memory"  # type: ignore[assignment]
    slots: int = Field(24, ge=1, le=256, description="objects that are remembered at once")
    slot_layers: int = Field(2, ge=1, description="layers in which slots look at a frame")
    birth: float = Field(0.2, ge=0, le=1, description="score from which a query begins an object")
    freeze_frame: bool = Field(False, description="train the slots only, on a finished frame network")


@dataclass(slots=True)
class Candidates:
    """The queries of B frames that slots may claim."""

    pixels: PixelFeatures
    features: Tensor  # [B, Q, D]
    unit: Tensor  # [B, Q, E] embeddings of length one
    score: Tensor  # [B, Q] best class probability
    starts: Tensor  # [B, Q, 2] where they started, x and y in 0..1 of the padded frame
    places: Tensor  # [B, Q, 3] of their masks, as of slots
    distinct: Tensor  # [B, Q] bool: not a weaker copy of another one
    extent: Tensor  # [B, 2] width and height of the padded frame, in frame heights

    def at(self, rows: Tensor) -> Candidates:
        """Those of some of the frames."""
        return Candidates(
            self.pixels.at(rows),
            self.features[rows],
            self.unit[rows],
            self.score[rows],
            self.starts[rows],
            self.places[rows],
            self.distinct[rows],
            self.extent[rows],
        )


@dataclass(slots=True)
class SlotLook:
    """What the slots make of a frame before they claim anything."""

    x: Tensor  # [B, S, D]
    likely: Tensor  # [B, S, Q + 1] logits of "this query shows my object", the last of "none does"
    expected: Tensor  # [B, S, 3] where each object is thought to be

    @property
    def margin(self) -> Tensor:
        """[B, S, Q] how much rather a slot takes a query than none."""
        return (self.likely[..., :-1] - self.likely[..., -1:]).detach()


@dataclass(slots=True)
class Held:
    """Which query each slot holds after a frame, all [B, S]."""

    query: Tensor
    claimed: Tensor  # bool: it shows the slot's object
    born: Tensor  # bool: it begins a new one
    number: Tensor  # of the new one

    @property
    def any(self) -> Tensor:
        return self.claimed | self.born


class SlotLayer(nn.Module):
    """Slots attend to the frame's queries, to the pixels under their masks, and to one another."""

    def __init__(self, config: CompactMemoryConfig) -> None:
        super().__init__()
        d, heads = config.width, config.heads
        self.find = Attention(d, heads)
        self.look = PixelAttention(config)
        self.compare = Attention(d, heads)
        self.feed_forward = FeedForward(d, config.hidden)
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(4))

    def forward(
        self, x: Tensor, place: Tensor, known: Tensor, pixels: PixelFeatures, focus: Tensor, between: Tensor
    ) -> Tensor:
        """x and place [B, S, D], frame queries `known` [B, Q, D]; focus and between bias the attention."""
        x = self.norms[0](x + self.find(x + place, known, known, None))
        x = self.norms[1](x + self.look(x + place, pixels, focus))
        x = self.norms[2](x + self.compare(x + place, x + place, x, between))
        return self.norms[3](x + self.feed_forward(x))


class CompactMemory(OnlineModel):
    """Online student that remembers."""

    config: CompactMemoryConfig

    def __init__(self, config: CompactMemoryConfig) -> None:
        super().__init__()
        self.config = config
        d = config.width
        self.frame = Compact(config)
        self.absence = nn.Linear(1, d)
        self.know = nn.Linear(d, d)
        self.layers = nn.ModuleList(SlotLayer(config) for _ in range(config.slot_layers))
        self.me = nn.Linear(d, d)
        self.other = nn.Linear(d, d)
        self.pair = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1))
        self.hidden = nn.Linear(d, 1)
        self.move = nn.Linear(d, 2)
        self.change = nn.Linear(d, d)
        self.gate = nn.Linear(2 * d, d)
        self.trust = nn.Linear(2 * d, 1)
        last = self.pair[2]
        assert isinstance(last, nn.Linear)
        for correction in (self.absence, self.me, last, self.hidden, self.move, self.change, self.trust):
            nn.init.zeros_(correction.weight)
            nn.init.zeros_(correction.bias)

    def load_pretrained(self) -> None:
        """Take the ImageNet weights of the frame network's backbone."""
        self.frame.load_pretrained()

    def begin(self, streams: int) -> State:
        return self.free(streams).state

    def free(self, streams: int) -> TrackSlots:
        """Slots that hold nothing."""
        config = self.config
        return TrackSlots.free(streams, config.slots, config.width, config.embed, self.absence.weight)

    def forward(self, frames: Tensor, pad: Tensor, state: State | None = None) -> tuple[FrameQueries, State]:
        slots = self.free(len(frames)) if state is None else TrackSlots.of_state(state)
        pixels = self.frame.encoder(frames, pad)
        starts = peak_places(pixels, self.config.queries)
        seen = candidates(self.frame.decode(pixels, starts)[-1], pixels, pad, starts.shape[1])
        elapsed = torch.ones(len(frames), device=frames.device)
        look = self.look(slots, seen, elapsed)
        held = self.hold(slots, seen, *claim_queries(slots, seen, look))
        queries, slots = self.write(slots, seen, look, held, elapsed)
        return queries, slots.state

    def look(self, slots: TrackSlots, seen: Candidates, elapsed: Tensor) -> SlotLook:
        """Process a frame that is `elapsed` [B] frames after the last one."""
        pixels = seen.pixels
        expected = slots.expected(elapsed)
        start = _in_frame(expected, seen)
        place = pixels.code_at(start)
        known = self.know(seen.features) + pixels.code_at(seen.starts)
        missed = torch.log1p(slots.unseen + elapsed.unsqueeze(1) - 1).unsqueeze(-1)  # [B, S, 1]
        x = slots.query + self.absence(missed)
        focus = mask_focus(self.frame.heads.answer(slots.query, start, pixels), pixels)
        between = torch.where(slots.taken, 0.0, NEVER).unsqueeze(1)
        for layer in self.layers:
            x = layer(x, place, known, pixels, focus, between)
        moved = expected[..., 2:] * self.move(x).float()
        expected = expected + F.pad(moved, (0, 1))
        paired = (self.me(x) @ self.other(known).transpose(1, 2)).float() * x.shape[-1] ** -0.5
        likely = paired + self.alike(slots, expected, missed, seen)
        none = SHARPNESS * SAME + self.hidden(x).float()
        return SlotLook(x, torch.cat([likely, none], -1), expected)

    def alike(self, slots: TrackSlots, expected: Tensor, missed: Tensor, seen: Candidates) -> Tensor:
        """Similarity in appearance and position of each query and each slot's object [B, S, Q]."""
        with torch.autocast(missed.device.type, enabled=False):  # small differences decide
            cosine = slots.embed @ seen.unit.transpose(1, 2)
        apart, larger = compared(expected, seen.places)
        sure = seen.score.clamp(min=LEAST).log().unsqueeze(1)
        given = [cosine, apart, larger, sure, missed, torch.log1p(slots.seen).unsqueeze(-1)]
        pair = torch.stack([x.expand_as(cosine) for x in given], -1)
        learned: Tensor = self.pair(pair).squeeze(-1).float()
        return SHARPNESS * cosine + sure - NEARNESS * apart + learned

    def hold(
        self,
        slots: TrackSlots,
        seen: Candidates,
        query: Tensor,
        claimed: Tensor,
        open_to: Tensor | None = None,
    ) -> Held:
        """What each slot holds, once its claims [B, S] are settled.

        New objects begin from queries that no slot claims; with `open_to` [B, Q], only from these.
        """
        given = F.one_hot(query, seen.score.shape[1]) * claimed.unsqueeze(2)
        may = seen.distinct & (seen.score > self.config.birth) & ~given.bool().any(1)
        if open_to is not None:
            may = may & open_to
        new, born, number = give_births(seen.score * may, slots, claimed)
        return Held(torch.where(born, new, query), claimed, born, number)

    def write(
        self, slots: TrackSlots, seen: Candidates, look: SlotLook, held: Held, elapsed: Tensor
    ) -> tuple[CompactQueries, TrackSlots]:
        """The answer about a frame, one query a slot, and the slots after it."""
        claimed, born = held.claimed.unsqueeze(-1), held.born.unsqueeze(-1)
        shown, unit = _rows(seen.features, held.query), _rows(seen.unit, held.query)
        features = shown + torch.where(claimed, self.change(look.x), 0.0)
        answer = self.frame.heads.answer(features, _rows(seen.starts, held.query), seen.pixels)
        out = ~held.any
        queries = replace(
            answer,
            logits=answer.logits.float().masked_fill(out.unsqueeze(-1), HIDDEN),
            embed=unit,
            identity=torch.where(held.born, held.number, slots.number).masked_fill(out, -1).long(),
        )
        both = torch.cat([look.x, shown], -1)
        gate, trust = self.gate(both).float().sigmoid(), self.trust(both).float().sigmoid()
        features = features.float()
        query = torch.where(claimed, slots.query + gate * (features - slots.query), slots.query)
        mixed = F.normalize(slots.embed + trust * (unit - slots.embed), dim=-1)
        embed = torch.where(claimed, mixed, slots.embed)
        found = _rows(seen.places, held.query)
        after = slots.moved(look.expected, found, held.claimed, elapsed)
        return queries, TrackSlots(
            query=torch.where(born, features, query),
            embed=torch.where(born, unit, embed),
            place=torch.where(born, found, after.place),
            velocity=after.velocity.masked_fill(born, 0.0),
            unseen=after.unseen.masked_fill(held.born, 0.0),
            seen=torch.where(held.born, 1.0, torch.where(slots.taken, after.seen, 0.0)),
            number=torch.where(held.born, held.number, slots.number),
            begun=slots.begun + held.born.sum(1),
        )


def candidates(answer: CompactQueries, pixels: PixelFeatures, pad: Tensor, count: int) -> Candidates:
    """The first `count` queries of a frame network's answer, ready to be claimed."""
    features, unit = answer.features[:, :count], F.normalize(answer.embed[:, :count].float(), dim=-1)
    with torch.no_grad():
        score = answer.logits[:, :count].float().sigmoid().amax(-1)
        everyone = torch.arange(count, device=score.device).expand(len(score), -1)
        masks = (answer.masks_at(everyone, 4) > 0).float()
        size = unpadded_sizes(pad)[:, 1]  # [B] height of the unpadded frames
        cell = pad.shape[-2] / masks.shape[-2] / size
        extent = torch.stack([pad.shape[-1] / size, pad.shape[-2] / size], -1)
        places = mask_places(masks, cell)
        kept = distinct(masks.flatten(2), score, COPY)
    return Candidates(pixels, features, unit, score, answer.places[:, :count], places, kept, extent)


def claim_queries(slots: TrackSlots, seen: Candidates, look: SlotLook) -> tuple[Tensor, Tensor]:
    """The query that each slot claims and whether it claims any, both [B, S]."""
    may = slots.taken.unsqueeze(2) & seen.distinct.unsqueeze(1)
    return claim(look.margin.masked_fill(~may, -torch.inf))


def mask_places(masks: Tensor, cell: Tensor) -> Tensor:
    """Centre x, y and side of masks [B, N, h, w] with cells of these sides [B] -> [B, N, 3]."""
    down, across = masks.sum(3), masks.sum(2)  # [B, N, h], [B, N, w]
    area = down.sum(2).clamp(min=1)
    y, x = (
        (along * (torch.arange(along.shape[2], device=area.device) + 0.5)).sum(2) for along in (down, across)
    )
    return torch.stack([x / area, y / area, area.sqrt()], -1) * cell[:, None, None]


def compared(expected: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """How far queries are from where objects should be, in object sizes, and how much larger they are.

    Places [B, S, 3] and [B, Q, 3] -> [B, S, Q] each, the second as a logarithm.
    """
    there, here = expected.unsqueeze(2), places.unsqueeze(1)
    sides = there[..., 2].clamp(min=1e-3), here[..., 2].clamp(min=1e-3)
    away = (there[..., :2] - here[..., :2]).square().sum(-1).clamp(min=1e-12).sqrt()
    return (away / (sides[0] * sides[1]).sqrt()).clamp(max=FAR), (sides[1] / sides[0]).log()


def _in_frame(places: Tensor, seen: Candidates) -> Tensor:
    """Places of slots [B, S, 3] as x and y in 0..1 of the padded frame."""
    return (places[..., :2] / seen.extent.unsqueeze(1)).clamp(0, 1)


def _rows(x: Tensor, index: Tensor) -> Tensor:
    """x [B, Q, D], index [B, N] -> [B, N, D]."""
    return x.take_along_dim(index.unsqueeze(-1), 1)
