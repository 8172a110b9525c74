"""The training of VidEoMT on clips: an object keeps one query from the first frame that shows it.

The frames of a clip pass one after another, so gradients reach the layer that hands queries on. Besides the
answer after the last layer, the tokens before each of the last layers answer, too. Every answer is matched on
its own. Masks are compared at random points, most of them where the answer is unsure, as published.

Shapes: B clips, T frames, F = B * T frames, Q queries, N instances, M matched instances in frames, P points.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ookd.losses import dice, mean_over_ranks
from ookd.matching import hungarian
from ookd.models.families import family_of
from ookd.models.parts.frame_targets import frame_targets, lies_in
from ookd.models.parts.mask_training import NOT_JUDGED
from ookd.models.protocols import StudentTask
from ookd.models.videomt.model import TokenAnswer, Videomt
from ookd.stopwatch import timed
from ookd.structures import Batch, FrameQueries, StudentMatches, Tracks

WEIGHTS: Mapping[str, float] = {
    "class": 2.0,
    "mask": 5.0,
    "dice": 5.0,
    "aux_class": 2.0,
    "aux_mask": 5.0,
    "aux_dice": 5.0,
}
NO_OBJECT = 0.1  # weight of a query without an instance
CANDIDATES, UNSURE = 3, 0.75  # points to choose from, relative to P; share of P for the least certain ones


@dataclass(slots=True)
class ClipMatches:
    """The query [N] of each instance of a clip, for all its frames; -1 for one that is never seen."""

    query: Tensor
    tracks: Tracks

    @property
    def instances(self) -> Tensor:
        """Those that have a query."""
        return (self.query >= 0).nonzero()[:, 0]


class VideomtTraining(StudentTask):
    """Batch -> named loss terms, not yet weighted. Clips must hold frames that follow one another."""

    model: Videomt

    def __init__(self, model: Videomt, weights: Mapping[str, float] = WEIGHTS) -> None:
        super().__init__()
        self.model = model
        self.normalise = family_of(model).preprocessing.normalise
        self.weights = dict(weights)
        self.points = model.config.train_num_points

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.learn(batch)[0]

    def learn(self, batch: Batch) -> tuple[dict[str, Tensor], StudentMatches]:
        """The terms, and the answer for F frames, matched to the instances."""
        batch = batch.seen_by_student()
        frames = batch.frames.shape[1]
        *early, last = self._answers(batch)
        where = [batch.pick([b]).draw(self.points, 2)[0] for b in range(len(batch.tracks))]
        terms: dict[str, Tensor] = {}
        matches = self._match(last, batch, where)
        for name, value in self._terms(last, matches, batch).items():
            terms[name] = value
        for answer in early:
            for name, value in self._terms(answer, self._match(answer, batch, where), batch).items():
                terms[f"aux_{name}"] = terms.get(f"aux_{name}", 0) + value
        most = max(1, *(len(one.query) for one in matches))
        query = torch.stack([F.pad(one.query, (0, most - len(one.query)), value=-1) for one in matches])
        seen = torch.cat([F.pad(one.tracks.visible.T, (0, most - len(one.query))) for one in matches])
        query = query.repeat_interleave(frames, 0)  # [F, N]
        return terms, StudentMatches(last.queries(), query.clamp(min=0), seen & (query >= 0))

    def answer(self, batch: Batch) -> FrameQueries:
        return self._answers(batch.seen_by_student())[-1].queries()

    def _answers(self, batch: Batch) -> list[TokenAnswer]:
        """The outputs for F frames, before each of the last layers and after them."""
        model, (clips, frames) = self.model, batch.frames.shape[:2]
        pixels = self.normalise(batch.frames, batch.pad).flatten(0, 1)
        tokens = model.encode(pixels).unflatten(0, (clips, frames))
        query = model.begin(clips)["query"]
        steps = []
        for t in range(frames):
            steps.append(model.follow(tokens[:, t], query))
            if t < frames - 1:
                query = model.next_query(steps[-1][-1])
        *early, last = (torch.stack(layer, 1).flatten(0, 1) for layer in zip(*steps, strict=True))
        grid = model.grid(pixels)
        return [model.decode(layer, grid) for layer in (*early, model.net.layernorm(last))]

    @timed("matcher")
    @torch.no_grad()
    def _match(self, answer: TokenAnswer, batch: Batch, where: list[Tensor]) -> list[ClipMatches]:
        """The instances of each clip matched by class and by masks at the points `where`, B of [P, 2]."""
        frames, matches = batch.frames.shape[1], []
        everyone = torch.arange(answer.query.shape[1], device=answer.query.device)[None]
        for b, tracks in enumerate(batch.tracks):

            def masks(t: int, row: int = b * frames, points: Tensor = where[b]) -> Tensor:
                return sampled(answer.at(row + t).masks(everyone)[0], points)

            truth = sampled(tracks.masks.flatten(0, 1), where[b]).unflatten(0, (len(tracks), frames))
            logits = answer.logits[b * frames : (b + 1) * frames]
            matches.append(ClipMatches(match_clip(logits, masks, tracks, truth), tracks))
        return matches

    def _terms(self, answer: TokenAnswer, matches: list[ClipMatches], batch: Batch) -> dict[str, Tensor]:
        frames, device = batch.frames.shape[1], answer.logits.device
        nothing = answer.logits.shape[-1] - 1
        wanted = torch.full(answer.logits.shape[:2], nothing, device=device)  # [F, Q]
        if (ignore := frame_targets(batch.tracks).ignore) is not None:
            every = torch.arange(wanted.shape[1], device=device).expand(len(wanted), -1)
            masks = F.interpolate(answer.masks(every).float(), ignore.shape[-2:], mode="bilinear")
            wanted[lies_in(masks, ignore)] = NOT_JUDGED
        logits, truths, points = [], [], []
        for b, one in enumerate(matches):
            instances, rows = one.instances, slice(b * frames, (b + 1) * frames)
            query = one.query[instances].expand(frames, -1)
            wanted[rows] = wanted[rows].scatter(1, query, one.tracks.labels[instances].expand(frames, -1))
            logits.append(answer.at(rows).masks(query).flatten(0, 1))
            truths.append(one.tracks.masks[instances].transpose(0, 1).flatten(0, 1))
            count = round((CANDIDATES + 1 - UNSURE) * self.points)
            points.append(batch.pick([b]).draw(frames, len(instances), count, 2)[0].flatten(0, 1))
        weight = torch.ones(nothing + 1, device=device)
        weight[-1] = NO_OBJECT
        entropy = F.cross_entropy(
            answer.logits.float().flatten(0, 1),
            wanted.flatten(),
            weight,
            reduction="sum",
            ignore_index=NOT_JUDGED,
        )
        judged = wanted[wanted != NOT_JUDGED]
        found, truth = torch.cat(logits), torch.cat(truths)
        places = unsure_points(found, torch.cat(points), self.points)
        at_points, truth_at = sampled(found, places), sampled(truth, places)
        pairs = mean_over_ranks(len(found), device).clamp(min=1)
        bce = F.binary_cross_entropy_with_logits(at_points, truth_at, reduction="none").mean(1)
        return {
            "class": entropy / mean_over_ranks(weight[judged].sum(), device),
            "mask": bce.sum() / pairs,
            "dice": dice(at_points, truth_at).sum() / pairs,
        }


def match_clip(logits: Tensor, masks: Callable[[int], Tensor], tracks: Tracks, truth: Tensor) -> Tensor:
    """The query [N] of each instance: the best that is free in the first frame that shows it; -1 for none.

    Logits [T, Q, K + 1], the masks [Q, P] of a frame at P points, and the true ones [N, T, P] there.
    """
    query = torch.full((len(tracks),), -1, device=logits.device)
    for t, frame in enumerate(logits.float().softmax(-1)):
        new = ((query < 0) & tracks.visible[:, t]).nonzero()[:, 0]
        if not len(new):
            continue
        free = torch.ones(len(frame), dtype=torch.bool, device=frame.device)
        free[query[query >= 0]] = False
        choices = free.nonzero()[:, 0]
        named = frame[choices][:, tracks.labels[new]]
        matched = hungarian(point_cost(masks(t)[choices], truth[new, t]) - 2 * named)
        query[new[matched.instance]] = choices[matched.query]
    return query


def point_cost(logits: Tensor, truth: Tensor) -> Tensor:
    """How ill masks [Q, P] fit the true ones [N, P], by cross-entropy and overlap -> [Q, N]."""
    entropy = F.softplus(logits).mean(1, keepdim=True) - logits @ truth.T / logits.shape[1]
    p = logits.sigmoid()
    overlap = (2 * p @ truth.T + 1) / (p.sum(1, keepdim=True) + truth.sum(1) + 1)
    return 5 * entropy + 5 * (1 - overlap)


def sampled(masks: Tensor, points: Tensor) -> Tensor:
    """Masks [M, h, w] at points [P, 2] or [M, P, 2], x and y in 0..1 -> float32 [M, P]."""
    grid = (2 * points - 1).expand(len(masks), -1, -1).unsqueeze(1)
    return F.grid_sample(masks.float().unsqueeze(1), grid, align_corners=False)[:, 0, 0]


@torch.no_grad()
def unsure_points(logits: Tensor, points: Tensor, count: int) -> Tensor:
    """`count` of the random points [M, .., 2]: three quarters where mask logits [M, h, w] are least sure."""
    candidates, rest = points[:, : CANDIDATES * count], points[:, CANDIDATES * count :]
    unsure = sampled(logits, candidates).abs().topk(int(UNSURE * count), 1, largest=False).indices
    return torch.cat([candidates.take_along_dim(unsure.unsqueeze(-1), 1), rest], 1)
