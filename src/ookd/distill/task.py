"""A student's training with a teacher beside it."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from ookd.config import Distill, Signal
from ookd.distill.controls import CONTROLS
from ookd.distill.knowledge import Knowledge, Told, Widths
from ookd.distill.qfa import Pairs, associate_by_label, associate_by_prediction, keep
from ookd.distill.signals import SIGNALS
from ookd.distill.teacher import LiveTeacher, look
from ookd.errors import UserError
from ookd.structures import Batch, FrameQueries, Lesson


class Distillation(nn.Module):
    """Batch -> the student's own terms, `kd_*` terms for each signal in use, and what filtering left
    (`kept_*`).

    The teacher sees the whole clip, the student its frames.
    """

    _step: Tensor  # [] how many steps were learned

    def __init__(self, student: nn.Module, spec: Distill, names: list[str]) -> None:
        super().__init__()
        self.student = student
        mine: Any = student
        self.spec = spec
        self.used: dict[str, Signal] = {
            name: signal for name, signal in spec.signals.items() if signal.weight > 0
        }
        if not spec.teacher:
            raise UserError(
                "distill.teacher: name the model folder of a teacher (ookd distill --teacher DIR)"
            )
        if spec.associate == "labels" and spec.filter.kind != "exact":
            raise UserError(
                f"distill.filter: {spec.filter.kind} asks no labels, so pairs cannot be found by them: "
                "set distill.associate=prediction, or distill.filter.kind=exact"
            )
        self.teacher = LiveTeacher(spec.teacher, names)
        features, teacher_pixels = self.teacher.width()
        seen: FrameQueries = look(mine.model, torch.zeros(1, 3, 64, 64))[0]
        embed = seen.embed.shape[-1]
        self.features = CONTROLS[spec.control](len(names), features, embed)
        widths = Widths(
            self.features.width, embed, teacher_pixels, 0 if seen.pixels is None else seen.pixels.shape[1]
        )
        self.signals = nn.ModuleDict({name: SIGNALS[name](widths) for name in self.used})
        self.register_buffer("_step", torch.zeros((), dtype=torch.long))
        self.weights: dict[str, float] = {**mine.weights}
        self.weights |= {f"kd_{name}": signal.weight for name, signal in self.used.items()}

    @property
    def model(self) -> nn.Module:
        return cast(nn.Module, self.student.model)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        student: Any = self.student
        terms: dict[str, Tensor]
        terms, lesson = student.learn(batch)
        pad = batch.seen_by_student().pad.flatten(0, 1)
        sums = {name: (pad.new_zeros((), dtype=torch.float32),) * 2 for name in self.signals}
        queries = kept_queries = pairs_made = 0
        for told in self.teacher.ask(batch):
            kept = keep(told.answer, told.tracks, self.spec.filter)
            pairs = self._pairs(kept, told, lesson)
            knowledge = self._knowledge(pairs, told, lesson.answer, pad)
            for name, signal in self.signals.items():
                total, weight = signal(knowledge)
                sums[name] = sums[name][0] + total, sums[name][1] + weight
            queries += told.answer.logits.shape[0] * told.answer.logits.shape[1]
            kept_queries += sum(len(one.query) for one in kept)
            pairs_made += len(pairs)
        for name, (total, weight) in sums.items():
            terms[f"kd_{name}"] = total / weight.clamp(min=1e-6) * factor(self.used[name], self._step)
        terms["kept_share"] = pad.new_tensor(kept_queries / max(queries, 1), dtype=torch.float32)
        terms["kept_pairs"] = pairs_made / lesson.valid.sum().clamp(min=1)
        if self.training:
            self._step += 1
        return terms

    def _pairs(self, kept: list[Any], told: Told, lesson: Lesson) -> Pairs:
        if self.spec.associate == "labels":
            return associate_by_label(kept, lesson, told.clips, told.places)
        return associate_by_prediction(
            kept, told.answer, lesson.answer, told.clips, told.places, self.spec.pair_iou
        )

    def _knowledge(self, pairs: Pairs, told: Told, answer: FrameQueries, pad: Tensor) -> Knowledge:
        features, views = self.features(pairs, told.answer, answer)
        known = self.teacher.known.to(pad.device)
        return Knowledge(pairs, told, answer, pad, features, views, known, self.spec.temperature)


def factor(signal: Signal, step: Any) -> Tensor:
    """Rises over `warmup` steps, stays, and falls to 0 over the last `decay` steps before `until`."""
    up = (step + 1) / max(1, signal.warmup)
    down = torch.ones(()) if signal.until is None else (signal.until - step) / max(1, signal.decay)
    return torch.minimum(torch.as_tensor(up, dtype=torch.float32), torch.as_tensor(down)).clamp(0, 1)
