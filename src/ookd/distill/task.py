"""A student's training with a teacher beside it."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from ookd.config import Distill, Signal
from ookd.distill.qfa import associate_by_label, associate_by_prediction, keep
from ookd.distill.signals import SIGNALS, Bridge, Knowledge
from ookd.errors import UserError
from ookd.models import zoo
from ookd.models.preprocess import normalise
from ookd.structures import Batch, ClipQueries


class Distillation(nn.Module):
    """Batch -> the student's own terms, `kd_*` terms for each signal in use, and what filtering left
    (`kept_*`).

    The teacher sees the whole clip, the student its frames. The teacher is not part of the module: it is
    neither trained, nor saved, nor shared among processes.
    """

    _columns: Tensor  # [K] the teacher's class for each of the student's; -1 where it has none
    _step: Tensor  # [] how many steps were learned

    def __init__(self, student: nn.Module, spec: Distill, names: list[str]) -> None:
        super().__init__()
        self.student = student
        mine: Any = student
        self.spec = spec
        self.signals = {name: signal for name, signal in spec.signals.items() if signal.weight > 0}
        if not spec.teacher:
            raise UserError(
                "distill.teacher: name the model folder of a teacher (ookd distill --teacher DIR)"
            )
        saved = zoo.load(spec.teacher)
        if not getattr(saved.model, "offline", False):
            raise UserError(f"{spec.teacher}: a teacher sees whole clips; this model sees single frames")
        self._teacher = [saved.model.requires_grad_(False).eval()]
        columns = [saved.names.index(name) if name in saved.names else -1 for name in names]
        if max(columns) < 0:
            raise UserError(f"{spec.teacher}: the teacher knows none of the classes {', '.join(names)}")
        self.register_buffer("_columns", torch.tensor(columns), persistent=False)
        teacher: Any = saved.model.config
        self.bridge = Bridge(teacher.width, mine.model.config.embed)
        self.register_buffer("_step", torch.zeros((), dtype=torch.long))
        self.weights: dict[str, float] = {**mine.weights}
        self.weights |= {f"kd_{name}": signal.weight for name, signal in self.signals.items()}

    @property
    def model(self) -> nn.Module:
        return cast(nn.Module, self.student.model)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        student_task: Any = self.student
        terms: dict[str, Tensor]
        terms, lesson = student_task.learn(batch)
        teacher = self._ask(batch)
        kept = keep(teacher, batch.tracks, self.spec.filter)
        student = batch.student
        if student is None:
            every = torch.arange(batch.frames.shape[1], device=batch.frames.device)
            student = every.expand(len(batch.frames), -1)
        if self.spec.associate == "labels":
            pairs = associate_by_label(kept, lesson, student)
        else:
            pairs = associate_by_prediction(kept, teacher, lesson.answer, student, self.spec.pair_iou)
        knowledge = Knowledge(
            pairs, teacher, lesson.answer, self._columns >= 0, self.bridge, self.spec.temperature
        )
        for name, signal in self.signals.items():
            terms[f"kd_{name}"] = SIGNALS[name](knowledge) * factor(signal, self._step)
        queries = teacher.logits.shape[0] * teacher.logits.shape[1]
        instances = int(lesson.valid.sum())
        terms["kept_share"] = torch.tensor(sum(len(one.query) for one in kept) / queries)
        terms["kept_pairs"] = torch.tensor(len(pairs) / max(instances, 1))
        if self.training:
            self._step += 1
        return terms

    @torch.no_grad()
    def _ask(self, batch: Batch) -> ClipQueries:
        """The teacher's answer, its classes in the student's order."""
        teacher = self._teacher[0].to(batch.frames.device)
        answer: ClipQueries = teacher(normalise(batch.frames, batch.pad), batch.pad)
        logits = answer.logits[..., self._columns.clamp(min=0)].masked_fill(self._columns < 0, -20.0)
        return ClipQueries(logits, answer.boxes, answer.features, answer.frame_features, answer.masks)


def factor(signal: Signal, step: Any) -> Tensor:
    """Rises over `warmup` steps, stays, and falls to 0 over the last `decay` steps before `until`."""
    up = (step + 1) / max(1, signal.warmup)
    down = torch.ones(()) if signal.until is None else (signal.until - step) / max(1, signal.decay)
    return torch.minimum(torch.as_tensor(up, dtype=torch.float32), torch.as_tensor(down)).clamp(0, 1)
