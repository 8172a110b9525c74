"""What a run tells about its teacher and its signals, besides the losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ookd.distill.knowledge import PairBatch, TeacherAnswer
from ookd.distill.qfa import Kept
from ookd.losses import mean_over_ranks

EVERY = 20  # steps between measurements that cost something; their numbers are held in between
EXACT = 0.5  # tube overlap from which a teacher query of the right class counts as exact


class Diagnostics(nn.Module):
    """`kept_*`: what filtering left; `exact_*`: how right the teacher is; `share_*`: how hard a signal pulls;
    `agree_*`: how much teacher and student already agree.
    """

    seen: Tensor  # [K] instances so far
    right: Tensor  # [K] of them, those that the teacher knows exactly
    held: Tensor  # [signals + 2] shares, then agreement on class and mask

    def __init__(self, classes: int, signals: Sequence[str]) -> None:
        super().__init__()
        self.signals = list(signals)
        self.register_buffer("seen", torch.zeros(classes))
        self.register_buffer("right", torch.zeros(classes))
        self.register_buffer("held", torch.zeros(len(self.signals) + 2))

    @torch.no_grad()
    def count(self, told: TeacherAnswer, kept: Sequence[Kept]) -> None:
        """Note what the teacher knows of the labelled instances in view."""
        for tracks, one in zip(told.tracks, kept, strict=False):
            if one.judged is not None:
                shown = tracks.visible.any(1)
                exact = torch.zeros_like(shown)
                exact[one.judged.instance] = one.judged.named & (one.judged.iou >= EXACT)
                self.seen.index_add_(0, tracks.labels, shown.float())
                self.right.index_add_(0, tracks.labels, (exact & shown).float())

    def pull(self, own: Tensor, kd: Mapping[str, Tensor], features: Sequence[Tensor]) -> None:
        """How strong each signal's gradient is at the student's query features, relative to its own loss."""
        if torch.is_grad_enabled():
            whole = _norm(own, features)
            for place, name in enumerate(self.signals):
                self.held[place] = _norm(kd[name], features) / whole.clamp(min=1e-12)

    @torch.no_grad()
    def agree(self, knowledge: Sequence[PairBatch]) -> None:
        """Over the pairs: the same class, and the overlap of their masks."""
        same, overlap = [], []
        for k in knowledge:
            if len(k.pairs):
                mine = k.answer.logits[k.pairs.frame, k.pairs.student].argmax(-1)
                same.append(mine == k.told.answer.logits[k.pairs.clip, k.pairs.teacher].argmax(-1))
                masks = k.student_masks()
                a, b = (masks > 0).flatten(1), (k.teacher_masks(masks.shape[-2:]) > 0.5).flatten(1)
                overlap.append((a & b).sum(1) / (a | b).sum(1).clamp(min=1))
        if same:
            self.held[-2], self.held[-1] = torch.cat(same).float().mean(), torch.cat(overlap).mean()

    @torch.no_grad()
    def report(self) -> dict[str, Tensor]:
        """The same names on every rank."""
        seen = mean_over_ranks(self.seen, self.seen.device)
        right = mean_over_ranks(self.right, self.right.device)
        lines = dict(zip([f"share_{name}" for name in self.signals], self.held[:-2], strict=True))
        lines |= {"agree_class": self.held[-2], "agree_iou": self.held[-1]}
        if known := [label for label, count in enumerate(seen.tolist()) if count]:
            lines["exact_all"] = right.sum() / seen.sum()
            lines |= {f"exact_{label}": right[label] / seen[label] for label in known}
        return {name: value.clone() for name, value in lines.items()}


def _norm(loss: Tensor, at: Sequence[Tensor]) -> Tensor:
    """Of the gradient of a loss, over all the places."""
    if not loss.requires_grad:
        return loss.new_zeros(())
    grads = torch.autograd.grad(loss, list(at), retain_graph=True, allow_unused=True)
    return sum((g.float().pow(2).sum() for g in grads if g is not None), loss.new_zeros(())).sqrt()
