"""What is transferred over the pairs. Teacher tensors carry no gradient.

A signal is a module of `PairBatch` that answers with a sum and the weight it is over. It owns the learned
maps that it needs between the two models' spaces; they are used in training only. Adding one: a class, its
name in `SIGNALS` and in the recipe's schema.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ookd.distill.knowledge import PairBatch, Widths
from ookd.distill.qfa import tube_iou
from ookd.errors import UserError
from ookd.losses import dice, mask_bce

FAINT = 1e-4  # variance below which a channel says nothing
UNSURE = 0.5  # overlap with an instance above which a query without one is neither it nor something else


class Signal(nn.Module):
    def __init__(self, widths: Widths) -> None:
        super().__init__()

    def forward(self, k: PairBatch) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


class Embedding(Signal):
    """The student's embedding, mapped, points where the teacher's clip feature does."""

    def __init__(self, widths: Widths) -> None:
        super().__init__(widths)
        self.to_teacher = _same(widths.queries[1], widths.features)

    def forward(self, k: PairBatch) -> tuple[Tensor, Tensor]:
        cosine = F.cosine_similarity(self.to_teacher(k.embeds()).float(), k.features, dim=-1)
        return k.weighted(1 - cosine)


class Key(Signal):
    """In the tracker's own space: an embedding must find the mapped clip feature of its instance.

    One key an instance; those of all clips take part.
    """

    def __init__(self, widths: Widths) -> None:
        super().__init__(widths)
        self.to_student = _same(widths.features, widths.queries[1])

    def forward(self, k: PairBatch) -> tuple[Tensor, Tensor]:
        return k.weighted(self.miss(k, torch.ones_like(k.together())))

    def miss(self, k: PairBatch, among: Tensor) -> Tensor:
        """[P] how far each embedding is from picking its own key, `among` [P, P] those of other pairs."""
        keys = F.normalize(self.to_student(k.features).float(), dim=-1)
        # of the pairs that share an instance the first stands for all
        everyone = torch.arange(len(keys), device=keys.device)
        first = torch.where(k.same(), everyone, len(keys)).amin(1) if len(keys) else everyone
        logits = k.temperature * k.embeds() @ keys.T
        logits = logits.masked_fill(~(among & (first == everyone)), -torch.inf)
        return F.cross_entropy(logits, first, reduction="none")


class Relation(Key):
    """As `key`, within the clip, and as confusable as the teacher finds.

    Between two frames, an embedding's similarities to the instances of the other frame follow those of the
    clip features.
    """

    def forward(self, k: PairBatch) -> tuple[Tensor, Tensor]:
        embeds, together = k.embeds(), k.together()
        across = together & (k.pairs.frame.unsqueeze(1) != k.pairs.frame)
        alike = F.normalize(k.features, dim=-1)
        mine = _rows(k.temperature * embeds @ embeds.T, across)
        theirs = _rows(k.temperature * alike @ alike.T, across)
        divergence = (theirs.exp() * (theirs - mine)).masked_fill(~across, 0.0).sum(1)
        return k.weighted(self.miss(k, together) + divergence)


class SoftAssociation(Signal):
    """As the tracker asks: which of *all* queries of another frame is this instance?

    The teacher's answer spreads over the paired queries there by how alike their views are to it; every other
    query, background and distractors, gets nothing, except that one without a pair which lies on the instance
    is left out. Asked only where the other frame shows the instance too.
    """

    def forward(self, k: PairBatch) -> tuple[Tensor, Tensor]:
        pairs = k.pairs
        across = k.together() & (pairs.frame.unsqueeze(1) != pairs.frame)
        mine, other = (across & k.same()).nonzero(as_tuple=True)  # A questions: pair, its instance elsewhere
        if not len(mine):
            return k.nothing()
        there = pairs.frame[other]
        answers = pairs.frame.unsqueeze(0) == there.unsqueeze(1)  # [A, P] the pairs of that frame
        unit = F.normalize(k.answer.embed.float(), dim=-1)
        logits = k.temperature * torch.einsum("ae,are->ar", k.embeds()[mine], unit[there])
        views = F.normalize(k.views, dim=-1)
        theirs = _rows(k.temperature * views[mine] @ views.T, answers).exp() * answers
        wanted = torch.zeros_like(logits).index_add(1, pairs.student, theirs)
        logits = logits.masked_fill(self._unsure(k, mine, other), -1e4)
        divergence = (torch.xlogy(wanted, wanted) - wanted * logits.log_softmax(1)).sum(1)
        weight = pairs.weight[mine]
        return (divergence * weight).sum(), weight.sum()

    @torch.no_grad()
    def _unsure(self, k: PairBatch, mine: Tensor, other: Tensor) -> Tensor:
        """[A, R] queries of the other frame without a pair that lie on the instance."""
        frames, count = k.answer.logits.shape[:2]
        everyone = torch.arange(count, device=mine.device).expand(frames, -1)
        drawn = k.answer.masks(everyone) > 0  # [F, R, h, w]
        theirs = k.teacher_masks(drawn.shape[-2:]) > 0.5  # [P, h, w]
        paired = torch.zeros(frames, count, dtype=torch.bool, device=mine.device)
        paired[k.pairs.frame, k.pairs.student] = True
        unsure = torch.zeros(len(mine), count, dtype=torch.bool, device=mine.device)
        for frame in k.pairs.frame[other].unique():
            asked = k.pairs.frame[other] == frame
            overlap = tube_iou(drawn[frame].unsqueeze(1), theirs[other[asked]].unsqueeze(1).float())
            unsure[asked] = (overlap.T >= UNSURE) & ~paired[frame]
        return unsure


class Class(Signal):
    """Soft class probabilities, of the classes both know."""

    def forward(self, k: PairBatch) -> tuple[Tensor, Tensor]:
        logits = k.answer.logits[k.pairs.frame, k.pairs.student].float()
        wanted = k.told.answer.logits[k.pairs.clip, k.pairs.teacher].float().sigmoid()
        each = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none") * k.known
        return k.weighted(each.sum(-1))


class Mask(Signal):
    """Soft masks of the frame."""

    def forward(self, k: PairBatch) -> tuple[Tensor, Tensor]:
        if not len(k.pairs):
            return k.nothing()
        mine = k.student_masks()
        theirs = k.teacher_masks(mine.shape[-2:])
        return k.weighted(mask_bce(mine, theirs) + dice(mine, theirs))


class Pixels(Signal):
    """What the student knows of each place goes up and down from place to place as the teacher's does.

    Channel by channel, so that neither offset nor scale matter. It asks no pairs.
    """

    def __init__(self, widths: Widths) -> None:
        super().__init__(widths)
        both = list(zip(widths.student_maps, widths.teacher_maps, strict=False))
        if not both:
            raise UserError("distill.signals.pixels: this teacher or student has no maps to compare")
        self.to_teacher = nn.ModuleList(
            nn.Identity() if widths.alike else nn.Conv2d(mine, theirs, 1) for mine, theirs in both
        )

    def forward(self, k: PairBatch) -> tuple[Tensor, Tensor]:
        frames = k.student_frames()
        pad = k.pad[frames]
        terms = []
        for to_teacher, mine, theirs in zip(self.to_teacher, k.answer.maps, k.told.maps, strict=False):
            size = mine.shape[-2:]
            wanted = theirs.float()
            if wanted.shape[-2:] != size:
                wanted = F.interpolate(wanted, size, mode="bilinear")
            shown = ~pad[:, :: pad.shape[1] // size[0], :: pad.shape[2] // size[1]]
            mapped = to_teacher(mine[frames])
            terms.append(unlike(_places(mapped), _places(wanted), shown.flatten().float()))
        count = pad.new_tensor(len(frames), dtype=torch.float32)
        return torch.stack(terms).mean() * count, count


class Shared(Signal):
    """The teacher's frame network answers the student's own questions: queries at the same places, hidden
    from one another as the student's are.

    After every layer their features vary from query to query as the teacher's do, and their embeddings point
    where the teacher's do, as far as the teacher is sure of them. It asks no pairs: queries that start at one
    place are the same.
    """

    def __init__(self, widths: Widths) -> None:
        super().__init__(widths)
        if widths.probe is None:
            raise UserError("distill.signals.shared: this teacher or student cannot be asked at given places")
        self.to_teacher = nn.ModuleList(
            nn.Identity() if widths.alike else nn.Linear(mine, theirs)
            for mine, theirs in zip(widths.queries, widths.probe, strict=True)
        )

    def forward(self, k: PairBatch) -> tuple[Tensor, Tensor]:
        frames, asked, probe = k.student_frames(), k.answer.asked, k.told.probe
        assert asked is not None
        assert probe is not None
        with torch.no_grad():
            theirs = probe(asked.places[frames], asked.between)
        assert theirs.asked is not None
        trust = theirs.logits.float().sigmoid().amax(-1).flatten()  # [nSR]
        features, embed = self.to_teacher
        layers = zip(reversed(asked.layers), reversed(theirs.asked.layers), strict=False)
        apart = [unlike(features(a[frames]).flatten(0, 1), b.flatten(0, 1), trust) for a, b in layers]
        cosine = F.cosine_similarity(embed(k.answer.embed[frames]).float(), theirs.embed.float(), dim=-1)
        weight = trust.sum()
        return torch.stack(apart).mean() * weight + ((1 - cosine.flatten()) * trust).sum(), weight


SIGNALS: dict[str, type[Signal]] = {
    "embedding": Embedding,
    "relation": Relation,
    "key": Key,
    "soft_association": SoftAssociation,
    "class": Class,
    "mask": Mask,
    "pixels": Pixels,
    "shared": Shared,
}
SINGLE_FRAMES = {"pixels", "shared"}  # those that ask no pairs: what the teacher says of each frame


def unlike(mine: Tensor, theirs: Tensor, weight: Tensor) -> Tensor:
    """One minus the correlation of each channel over R rows, the mean of all channels.

    mine and theirs [R, C], weight [R].
    """
    share = (weight / weight.sum().clamp(min=1e-6)).unsqueeze(1)

    def centred(x: Tensor) -> Tensor:
        return x.float() - (share * x.float()).sum(0)

    a, b = centred(mine), centred(theirs)
    spread = ((share * a * a).sum(0) + FAINT) * ((share * b * b).sum(0) + FAINT)
    return (1 - (share * a * b).sum(0) / spread.sqrt()).mean()


def _places(x: Tensor) -> Tensor:
    """[F, C, h, w] -> [Fhw, C]."""
    return x.flatten(2).transpose(1, 2).flatten(0, 1)


def _same(inputs: int, outputs: int) -> nn.Linear:
    """A map that leaves things as they are: student and teacher often begin as the same frame network."""
    linear = nn.Linear(inputs, outputs)
    nn.init.eye_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def _rows(logits: Tensor, allowed: Tensor) -> Tensor:
    """Log-probabilities over the allowed entries of each row; the others stay finite and are not used."""
    return logits.masked_fill(~allowed, -1e4).log_softmax(1)
