"""The compact offline teacher: it sees all frames of a clip together.

The online student runs on every frame. Its most confident frame queries become clip queries, each suppressing
those similar to it. A clip query has one part in every frame and one for the whole clip. In each decoder
layer the part in a frame attends to the frame queries there and to the pixels under its own mask. Then the
parts of a clip query exchange information over time, and the clip queries of a frame compare themselves. So a
frame that hides an object learns from the others.

All learned changes start at zero: before training, a part is the frame query that the clip query claims in
that frame, with its mask, class and place. A claim depends on appearance and on the likeliest paths through
the frames before and after.

Shapes: B clips, T frames, N clip queries, Q frame queries, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ookd.models.compact.attention import Attention
from ookd.models.compact.config import CompactConfig
from ookd.models.compact.encoder import PixelFeatures
from ookd.models.compact.model import Compact, CompactQueries, PixelAttention, mask_focus, peak_places
from ookd.models.parts.feed_forward import FeedForward
from ookd.models.parts.grid import axis_code
from ookd.models.protocols import OfflineModel
from ookd.structures import ClipQueries

SHARPNESS = 20.0  # factor of the cosines between embeddings, as in the tracker
ROUNDS = 3  # of claiming frame queries and averaging what was claimed
SEED_BONUS = 20.0  # added to the logit of the frame query that a clip query began as
NEARNESS = 2.0  # taken off the logit for each object size of distance to the next frame, as in the tracker
FAR = 2.0  # object sizes: larger distances count as this one
LEAST = -8.0  # smallest log-likelihood of a frame query, so that learned changes can overrule it
PRESENCE = (10.0, 0.6)  # initial presence: slope, and the cosine at which it is undecided
RIVAL_PENALTY = 40.0  # taken off presence, times how much more alike another clip query is
ABSENT_PENALTY = 20.0  # taken off mask logits in a frame where the instance is not in view


class CompactClipConfig(CompactConfig):
    family: Literal["compact-clip"] = "compact-clip"  # type: ignore[assignment]
    clip_queries: int = Field(24, ge=1, description="clip queries")
    clip_layers: int = Field(3, ge=1, description="layers of the clip decoder")
    freeze_frame: bool = Field(True, description="train the clip decoder only, on a finished frame network")


@dataclass(slots=True)
class ClipFrames:
    """The frame network's answer for B clips of T frames, which the clip decoder works with."""

    pixels: PixelFeatures  # of B * T frames
    places: Tensor  # [B, T, Q, 2]
    answer: CompactQueries  # of B * T frames
    unit: Tensor  # [B, T, Q, E] embeddings of length one
    score: Tensor  # [B, T, Q] best class probability
    apart: Tensor  # [B, T - 1, Q, Q] distance of the queries of a frame to those of the next, in object sizes


@dataclass(slots=True)
class ClipAnswer:
    """The answer of one decoder layer."""

    logits: Tensor  # [B, N, K]
    presence: Tensor  # [B, T, N] logits of "in view in this frame"
    association: Tensor  # [B, T, N, Q] logits of "this frame query shows my instance"
    choice: Tensor  # [B, T, N] the frame query that was claimed
    frame_embeds: Tensor  # [B, T, N, E] its embedding
    identity: Tensor  # [B, N, E] their mean over the frames that show the instance
    frame: CompactQueries  # of B * T frames: masks of the N parts


# some frames [F] of B * T, places [F, N, 2], bias of the attention among them -> the frame network's answer
DecodeAt = Callable[[Tensor, Tensor, Tensor | None], CompactQueries]


@dataclass(slots=True)
class CompactClipQueries(ClipQueries):
    """Clip queries whose frame network can also decode queries at given places."""

    decode_at: DecodeAt


class CompactClipLayer(nn.Module):
    """Parts attend to their frame's queries and pixels, then along time, then to one another."""

    def __init__(self, config: CompactClipConfig) -> None:
        super().__init__()
        d, heads = config.width, config.heads
        self.find = Attention(d, heads)
        self.look = PixelAttention(config)
        self.recall = Attention(d, heads)
        self.compare = Attention(d, heads)
        self.feed_forward = FeedForward(d, config.hidden)
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(5))

    def forward(
        self,
        x: Tensor,
        place: Tensor,
        time: Tensor,
        known: Tensor,
        frames: ClipFrames,
        focus: Tensor,
        between: Tensor | None,
    ) -> Tensor:
        """Update x [B, T + 1, N, D], the parts and last the whole.

        place [B, T, N, D] are position codes of the parts, time [T + 1, D] codes of the frames; known [BT,
        Q, D] are the frame queries; focus is added to the attention to pixels, between to that among clip
        queries.
        """
        b, t, n = place.shape[:3]
        parts = x[:, :t].flatten(0, 1)  # [BT, N, D]
        where = place.flatten(0, 1)
        parts = self.norms[0](parts + self.find(parts + where, known, known, None))
        parts = self.norms[1](parts + self.look(parts + where, frames.pixels, focus))
        x = torch.cat([parts.unflatten(0, (b, t)), x[:, t:]], 1)
        code = torch.cat([place, torch.zeros_like(place[:, :1])], 1)  # the whole has no place
        along = x.transpose(1, 2).flatten(0, 1)  # [BN, T + 1, D]
        when = along + time + code.transpose(1, 2).flatten(0, 1)
        along = self.norms[2](along + self.recall(when, when, along, None))
        x = along.unflatten(0, (b, n)).transpose(1, 2)
        within = x.flatten(0, 1)  # [B(T + 1), N, D]
        here = within + code.flatten(0, 1)
        within = self.norms[3](within + self.compare(here, here, within, between))
        within = self.norms[4](within + self.feed_forward(within))
        return within.unflatten(0, (b, t + 1))


class CompactClip(OfflineModel):
    """Offline teacher: a clip in, clip queries out."""

    config: CompactClipConfig

    def __init__(self, config: CompactClipConfig) -> None:
        super().__init__()
        self.config = config
        d = config.width
        self.frame = Compact(config)
        self.start = nn.Linear(d, d)
        self.know = nn.Linear(d, d)
        self.whole = nn.Parameter(torch.zeros(d))
        self.layers = nn.ModuleList(CompactClipLayer(config) for _ in range(config.clip_layers))
        self.norm = nn.LayerNorm(d)
        self.change = nn.Linear(d, d)
        self.classify = nn.Linear(d, config.classes)
        self.presence = nn.Linear(d, 1)
        self.me = nn.Linear(d, config.embed)
        self.other = nn.Linear(d, config.embed)
        for correction in (self.change, self.classify, self.presence, self.me):
            nn.init.zeros_(correction.weight)
            nn.init.zeros_(correction.bias)

    def load_pretrained(self) -> None:
        """Take the ImageNet weights of the frame network's backbone."""
        self.frame.load_pretrained()

    def forward(self, clip: Tensor, pad: Tensor) -> ClipQueries:
        """Normalised clips [B, T, 3, H, W], padding [B, T, H, W] -> the last layer's answer."""
        frames = self.encode(clip, pad)

        def decode_at(rows: Tensor, places: Tensor, between: Tensor | None) -> CompactQueries:
            return self.frame.decode(frames.pixels.at(rows), places, between)[-1]

        return as_clip_queries(self.decode(frames, self.seeds(frames))[-1], decode_at)

    def encode(self, clip: Tensor, pad: Tensor) -> ClipFrames:
        """Run the frame network on every frame."""
        b, t = clip.shape[:2]
        pixels = self.frame.encoder(clip.flatten(0, 1), pad.flatten(0, 1))
        places = peak_places(pixels, self.config.queries)
        answer = self.frame.decode(pixels, places)[-1]
        unit = F.normalize(answer.embed.float(), dim=-1)
        score = answer.logits.float().sigmoid().amax(-1)
        return ClipFrames(
            pixels,
            places.unflatten(0, (b, t)),
            answer,
            unit.unflatten(0, (b, t)),
            score.unflatten(0, (b, t)),
            distances(answer, places, b),
        )

    def seeds(self, frames: ClipFrames) -> Tensor:
        """Which of the clip's T * Q frame queries [B, N] become clip queries."""
        return choose_seeds(frames, self.config.clip_queries)

    def decode(self, frames: ClipFrames, seeds: Tensor, between: Tensor | None = None) -> list[ClipAnswer]:
        """Clip queries from seeds [B, N]; `between` [1, N, N] is added to the attention among them."""
        b, t = frames.score.shape[:2]
        alike, likely, choice = follow_seeds(frames, seeds, between)
        features = frames.answer.features.unflatten(0, (b, t))  # [B, T, Q, D]
        parts = self.start(_picked(features, choice))  # [B, T, N, D]
        whole = self.start(_rows(features.flatten(1, 2), seeds)) + self.whole
        x = torch.cat([parts, whole.unsqueeze(1)], 1)
        time = axis_code(t, x.shape[-1], x.device)
        time = torch.cat([time, torch.zeros_like(time[:1])])  # the whole has no time
        known = self.know(features.flatten(0, 1)) + frames.pixels.code_at(frames.places.flatten(0, 1))
        answers = [self._answer(x, alike, likely, known, frames, between)]
        for layer in self.layers:
            places = _picked(frames.places, answers[-1].choice)
            place = frames.pixels.code_at(places.flatten(0, 1)).unflatten(0, (b, t))
            focus = mask_focus(answers[-1].frame, frames.pixels)
            x = layer(x, place, time, known, frames, focus, between)
            answers.append(self._answer(x, alike, likely, known, frames, between))
        return answers

    def _answer(
        self,
        x: Tensor,
        alike: Tensor,
        likely: Tensor,
        known: Tensor,
        frames: ClipFrames,
        between: Tensor | None,
    ) -> ClipAnswer:
        """The answer from x [B, T + 1, N, D]; alike and likely [B, T, N, Q] as in `follow_seeds`."""
        b, t = frames.score.shape[:2]
        parts, whole = self.norm(x[:, :t]), self.norm(x[:, t])
        others = self.other(known).unflatten(0, (b, t))
        mine = torch.einsum("btne,btqe->btnq", self.me(parts), others).float()
        association = likely + mine
        choice = claim_queries(association, between)
        presence = initial_presence(alike, choice, between) + self.presence(parts).squeeze(-1).float()
        features = _picked(frames.answer.features.unflatten(0, (b, t)), choice) + self.change(parts)
        logits = _picked(frames.answer.logits.unflatten(0, (b, t)).float(), choice)  # [B, T, N, K]
        frame_embeds = _picked(frames.unit, choice)  # [B, T, N, E]
        when = (presence.sigmoid() / presence.sigmoid().sum(1, keepdim=True)).unsqueeze(-1)
        pooled = (when * logits).sum(1) + self.classify(whole)
        places = _picked(frames.places, choice).flatten(0, 1)
        frame = self.frame.heads.answer(features.flatten(0, 1), places, frames.pixels)
        return ClipAnswer(
            pooled, presence, association, choice, frame_embeds, (when * frame_embeds).sum(1), frame
        )


@torch.no_grad()
def choose_seeds(frames: ClipFrames, count: int) -> Tensor:
    """The most confident frame queries [B, count] of a clip. Each lowers the scores of similar ones."""
    score = frames.score.flatten(1).clone()  # [B, TQ]
    unit = frames.unit.flatten(1, 2)
    chosen = []
    for _ in range(count):
        best = score.argmax(1)
        chosen.append(best)
        alike = torch.einsum("be,bse->bs", _rows(unit, best.unsqueeze(1)).squeeze(1), unit).clamp(0, 1)
        score = score * (1 - alike**4)
        score.scatter_(1, best.unsqueeze(1), -1.0)
    return torch.stack(chosen, 1)


@torch.no_grad()
def follow_seeds(frames: ClipFrames, seeds: Tensor, between: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Follow each clip query from its seed [B, N] through the clip.

    Returns how alike it is to every frame query [B, T, N, Q], a cosine; the log-likelihood that both show the
    same instance, by appearance and by the paths through the clip [B, T, N, Q]; and the frame query that it
    claims in each frame [B, T, N]. Claiming alternates with averaging the embeddings of what was claimed.
    """
    count = frames.score.shape[2]
    begun = F.one_hot(seeds, frames.score[0].numel()).unflatten(2, (-1, count)).transpose(1, 2)
    identity = _rows(frames.unit.flatten(1, 2), seeds)
    for _ in range(ROUNDS):
        with torch.autocast(identity.device.type, enabled=False):  # presence asks for small differences
            alike = torch.einsum("bne,btqe->btnq", identity, frames.unit)
        likely = path_likelihood(SHARPNESS * alike + SEED_BONUS * begun, NEARNESS * frames.apart).clamp(
            min=LEAST
        )
        choice = claim_queries(likely, between)
        score = _picked(frames.score.unsqueeze(3), choice).squeeze(3)
        trust = initial_presence(alike, choice, between).sigmoid() * score
        identity = F.normalize((trust.unsqueeze(3) * _picked(frames.unit, choice)).sum(1), dim=-1)
    return alike, likely, choice


def path_likelihood(likely: Tensor, cost: Tensor) -> Tensor:
    """The share of all paths through the clip that pass each frame query, as a logarithm [B, T, N, Q].

    A path takes one frame query in each frame. Its weight sums the `likely` [B, T, N, Q] of these and
    subtracts the `cost` [B, T - 1, Q, Q] of every step to the next frame.
    """

    def messages(likely: Tensor, cost: Tensor) -> Tensor:
        """The evidence for each frame query from the frames before."""
        found = [torch.zeros_like(likely[:, 0])]
        for here, step in zip(likely.unbind(1), cost.unbind(1), strict=False):  # the last frame sends none
            weight = (here + found[-1]).log_softmax(-1)  # [B, N, Q]
            found.append((weight.unsqueeze(3) - step.unsqueeze(1)).logsumexp(2))
        return torch.stack(found, 1)

    after = messages(likely.flip(1), cost.flip(1).transpose(2, 3)).flip(1)
    return (messages(likely, cost) + likely + after).log_softmax(-1)


@torch.no_grad()
def claim_queries(association: Tensor, between: Tensor | None) -> Tensor:
    """The frame query [B, T, N] that each clip query claims: one that it prefers and no rival prefers more.

    association [B, T, N, Q]. Where `between` [1, N, N] is -inf, two clip queries are no rivals.
    """
    power = (association - association.amax((2, 3), keepdim=True)).exp()
    rivals = power.sum(2, keepdim=True)
    if between is not None:
        rivals = torch.einsum("nm,btmq->btnq", between[0].exp(), power)
    return (power / power.sum(3, keepdim=True) + power / rivals).argmax(-1)


@torch.no_grad()
def initial_presence(alike: Tensor, choice: Tensor, between: Tensor | None) -> Tensor:
    """The logit that each clip query is visible [B, T, N].

    It is high where the claimed frame query is similar to the clip query, and no rival is more similar.
    """
    every = alike.shape[2]
    similar = alike.gather(3, choice.unsqueeze(2).expand(-1, -1, every, -1))  # [B, T, M, N] M to N's choice
    mine = similar.diagonal(dim1=2, dim2=3)
    if between is not None:
        similar = similar + between.transpose(1, 2).unsqueeze(1)
    return PRESENCE[0] * (mine - PRESENCE[1]) - RIVAL_PENALTY * (similar.amax(2) - mine)


@torch.no_grad()
def distances(answer: CompactQueries, places: Tensor, clips: int) -> Tensor:
    """Distances of frame queries [BT, Q] to those of the next frame, in object sizes [B, T - 1, Q, Q]."""
    everyone = torch.arange(places.shape[1], device=places.device).expand(len(places), -1)
    masks = answer.masks_at(everyone, 8) > 0
    height, width = masks.shape[-2:]
    side = (masks.sum((2, 3)).clamp(min=1).float().sqrt() / height).unflatten(0, (clips, -1))  # [B, T, Q]
    at = (places.float() * places.new_tensor([width / height, 1.0])).unflatten(0, (clips, -1))
    size = (side[:, :-1].unsqueeze(3) * side[:, 1:].unsqueeze(2)).sqrt()
    return (torch.cdist(at[:, :-1], at[:, 1:]) / size).clamp(max=FAR)


def as_clip_queries(answer: ClipAnswer, decode_at: DecodeAt) -> CompactClipQueries:
    b, t = answer.presence.shape[:2]

    def masks(select: Tensor) -> Tensor:
        every = select.unsqueeze(1).expand(-1, t, -1)
        logits = answer.frame.masks(every.flatten(0, 1)).unflatten(0, (b, t)).transpose(1, 2)
        absent = answer.presence.gather(2, every).transpose(1, 2) < 0  # [B, N, T]
        return logits - ABSENT_PENALTY * absent[..., None, None]

    maps = [level.unflatten(0, (b, t)) for level in answer.frame.maps]
    return CompactClipQueries(
        answer.logits, None, answer.identity, answer.frame_embeds, masks, decode_at, maps=maps
    )


def _picked(x: Tensor, choice: Tensor) -> Tensor:
    """x [B, T, Q, D], choice [B, T, N] -> [B, T, N, D]."""
    return x.gather(2, choice.unsqueeze(-1).expand(-1, -1, -1, x.shape[-1]))


def _rows(x: Tensor, index: Tensor) -> Tensor:
    """x [B, S, D], index [B, N] -> [B, N, D]."""
    return x.gather(1, index.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
