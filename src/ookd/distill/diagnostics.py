"""What a run reports about its teacher and its signals, besides the losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ookd.distill.pair_signals import PairBatch
from ookd.distill.qfa import KeptQueries
from ookd.distill.teacher import TeacherAnswer
from ookd.losses import mean_over_ranks

INTERVAL = 20  # steps between costly measurements, whose numbers are repeated in between
EXACT = 0.5  # tube overlap from which a teacher query of the right class counts as exact


class Diagnostics(nn.Module):
    """`kept_*`: what filtering left. `exact_*`: how right the teacher is. `share_*`: how hard a signal pulls.
    `agree_*`: how much teacher and student already agree.
    """

    seen: Tensor  # [K] instances so far
    right: Tensor  # [K] those of them that the teacher knows exactly
    kept: Tensor  # [2] share of the teacher's queries; pairs per instance in view
    held: Tensor  # [signals + 2] shares, then agreement on class and mask

    def __init__(self, classes: int, signals: Sequence[str]) -> None:
        super().__init__()
        self.signals = list(signals)
        self.register_buffer("seen", torch.zeros(classes))
        self.register_buffer("right", torch.zeros(classes))
        self.register_buffer("kept", torch.zeros(2))
        self.register_buffer("held", torch.zeros(len(self.signals) + 2))

    @torch.no_grad()
    def count_exact(self, answer: TeacherAnswer, kept: Sequence[KeptQueries]) -> None:
        """Add up what the teacher knows of the labelled instances in view."""
        for tracks, one in zip(answer.tracks, kept, strict=False):
            if one.matches is not None:
                shown = tracks.visible.any(1)
                exact = torch.zeros_like(shown)
                exact[one.matches.instance] = one.matches.right_class & (one.matches.iou >= EXACT)
                self.seen.index_add_(0, tracks.labels, shown.float())
                self.right.index_add_(0, tracks.labels, (exact & shown).float())

    @torch.no_grad()
    def measure_kept(self, kept: int, queries: int, pairs: int, instances: Tensor) -> None:
        """Note how many of the teacher's queries were kept, and how many pairs there are for the instances
        in view.
        """
        self.kept[0] = kept / max(queries, 1)
        self.kept[1] = pairs / instances.clamp(min=1)

    def measure_pull(self, own: Tensor, signals: Mapping[str, Tensor], features: Sequence[Tensor]) -> None:
        """Note how strong each signal's gradient is at the student's query features, relative to that of its
        own loss.
        """
        if torch.is_grad_enabled():
            whole = _gradient_norm(own, features)
            for index, name in enumerate(self.signals):
                self.held[index] = _gradient_norm(signals[name], features) / whole.clamp(min=1e-12)

    @torch.no_grad()
    def measure_agreement(self, batches: Sequence[PairBatch]) -> None:
        """Note how many pairs have the same best class, and how much their masks overlap."""
        same, overlap = [], []
        for batch in batches:
            pairs = batch.pairs
            if len(pairs):
                label = batch.student.logits[pairs.frame, pairs.student].argmax(-1)
                same.append(label == batch.teacher.logits[pairs.clip, pairs.teacher].argmax(-1))
                masks = batch.student_masks()
                a, b = (masks > 0).flatten(1), (batch.teacher_masks(masks.shape[-2:]) > 0.5).flatten(1)
                overlap.append((a & b).sum(1) / (a | b).sum(1).clamp(min=1))
        if same:
            self.held[-2], self.held[-1] = torch.cat(same).float().mean(), torch.cat(overlap).mean()

    @torch.no_grad()
    def report(self) -> dict[str, Tensor]:
        """All numbers by name. The names are the same on every rank."""
        seen = mean_over_ranks(self.seen, self.seen.device)
        right = mean_over_ranks(self.right, self.right.device)
        lines = {"kept_share": self.kept[0], "kept_pairs": self.kept[1]}
        lines |= zip([f"share_{name}" for name in self.signals], self.held[:-2], strict=True)
        lines |= {"agree_class": self.held[-2], "agree_iou": self.held[-1]}
        if known := [label for label, count in enumerate(seen.tolist()) if count]:
            lines["exact_all"] = right.sum() / seen.sum()
            lines |= {f"exact_{label}": right[label] / seen[label] for label in known}
        return {name: value.clone() for name, value in lines.items()}


def _gradient_norm(loss: Tensor, at: Sequence[Tensor]) -> Tensor:
    """Norm of the gradient of a loss at all these tensors together; 0 where they come from frozen layers."""
    at = [tensor for tensor in at if tensor.requires_grad]
    if not loss.requires_grad or not at:
        return loss.new_zeros(())
    grads = torch.autograd.grad(loss, at, retain_graph=True, allow_unused=True)
    return sum((g.float().pow(2).sum() for g in grads if g is not None), loss.new_zeros(())).sqrt()
