"""A student's training with a teacher beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ookd.config import Data, Distill, Signal
from ookd.distill.cache import Cache
from ookd.distill.cached import CachedTeacher
from ookd.distill.controls import CONTROLS
from ookd.distill.diagnostics import EVERY, Diagnostics
from ookd.distill.fill import subject
from ookd.distill.knowledge import PairBatch, TeacherAnswer
from ookd.distill.qfa import Kept, Pairs, associate_by_label, associate_by_prediction, keep
from ookd.distill.signals import SIGNALS, SINGLE_FRAMES
from ookd.distill.teacher import LiveTeacher, look
from ookd.errors import UserError
from ookd.models.families import family_of
from ookd.models.protocols import Model, StudentTask, TrainingTask
from ookd.structures import Batch, FrameQueries, StudentMatches


@dataclass(slots=True)
class Part:
    """The clips of a batch that have labels, or those that have none, after the student saw them."""

    batch: Batch
    lesson: StudentMatches
    labelled: bool


class Distillation(TrainingTask):
    """Batch -> the student's own terms, `kd_*` terms for each signal in use, and diagnostics.

    The student sees its frames, the teacher the whole clip, unless no signal in use needs more than those
    frames. Clips without labels add to the signals alone.
    """

    _step: Tensor  # [] how many steps were learned

    def __init__(
        self, student: StudentTask, spec: Distill, names: list[str], data: Data | None = None
    ) -> None:
        super().__init__()
        self.student = student
        self.normalise = family_of(student.model).preprocessing.normalise
        self.spec = spec
        self.used: dict[str, Signal] = {name: one for name, one in spec.signals.items() if one.weight > 0}
        _check(spec)
        live = LiveTeacher(spec.teacher, names)
        self.known = live.known
        self.teacher: LiveTeacher | CachedTeacher = live
        if spec.cache is not None and data is not None:
            cache = Cache(Path(spec.cache), subject(live, data, spec))
            self.teacher = CachedTeacher(live, cache, look=not SINGLE_FRAMES.isdisjoint(self.used))
        widths = live.widths(look(student.model, torch.zeros(1, 3, 64, 64))[0])
        self.features = CONTROLS[spec.control](len(names), widths.features, widths.queries[1])
        widths = replace(widths, features=self.features.width)
        self.signals = nn.ModuleDict({name: SIGNALS[name](widths) for name in self.used})
        self.diagnostics = Diagnostics(len(names), list(self.used))
        self.register_buffer("_step", torch.zeros((), dtype=torch.long))
        self.weights: dict[str, float] = {**student.weights}
        self.weights |= {f"kd_{name}": signal.weight for name, signal in self.used.items()}

    @property
    def model(self) -> Model:  # type: ignore[override]
        return self.student.model

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        if self.used.keys() <= SINGLE_FRAMES:
            batch = batch.seen_by_student()
        terms, parts = self._learn(batch)
        own = torch.stack([self.weights[k] * v for k, v in terms.items() if k in self.weights]).sum()
        zero = own.new_zeros((), dtype=torch.float32)
        sums = dict.fromkeys(self.used, (zero, zero))
        asked = kept_queries = 0
        seen: list[PairBatch] = []
        for part in parts:
            for told in self.teacher.ask(part.batch):
                kept = self._keep(told, part)
                knowledge = self._knowledge(self._pairs(kept, told, part), told, part)
                for name, signal in self.signals.items():
                    total, weight = signal(knowledge)
                    sums[name] = sums[name][0] + total, sums[name][1] + weight
                self.diagnostics.count(told, kept)
                asked += told.answer.logits.shape[0] * told.answer.logits.shape[1]
                kept_queries += sum(len(one.query) for one in kept)
                seen.append(knowledge)
        kd = {
            name: total / weight.clamp(min=1e-6) * factor(self.used[name], self._step)
            for name, (total, weight) in sums.items()
        }
        if self.training:
            if int(self._step) % EVERY == 0:
                pulling = {name: self.used[name].weight * value for name, value in kd.items()}
                self.diagnostics.pull(own, pulling, [part.lesson.answer.features for part in parts])
                self.diagnostics.agree(seen)
            self._step += 1
        terms |= {f"kd_{name}": value for name, value in kd.items()}
        instances = torch.stack([part.lesson.valid.sum() for part in parts]).sum()
        terms["kept_share"] = zero + kept_queries / max(asked, 1)
        terms["kept_pairs"] = zero + sum(len(k.pairs) for k in seen) / instances.clamp(min=1)
        return terms | self.diagnostics.report()

    def _learn(self, batch: Batch) -> tuple[dict[str, Tensor], list[Part]]:
        """The student's own terms, from the clips with labels, and its answers for all clips.

        Without any labelled clip the terms are those of a clip taken for empty, times 0: their names and what
        ranks tell one another stay the same.
        """
        student = self.student
        labelled = [b for b, origin in enumerate(batch.origins) if origin.labelled]
        if not batch.origins or len(labelled) == len(batch.origins):
            terms, lesson = student.learn(batch)
            return terms, [Part(batch, lesson, True)]
        bare = batch.pick([b for b in range(len(batch.origins)) if b not in labelled])
        parts = []
        if labelled:
            rest = batch.pick(labelled)
            terms, lesson = student.learn(rest)
            parts.append(Part(rest, lesson, True))
        else:
            terms = {name: 0 * value for name, value in student.learn(batch.pick([0]))[0].items()}
        shown = bare.seen_by_student()
        frames, pad = shown.frames.flatten(0, 1), shown.pad.flatten(0, 1)
        answer: FrameQueries = self.model(self.normalise(frames, pad), pad)[0]
        nothing = torch.zeros(len(frames), 0, dtype=torch.long, device=frames.device)
        parts.append(Part(bare, StudentMatches(answer, nothing, nothing.bool()), False))
        return terms, parts

    def _keep(self, told: TeacherAnswer, part: Part) -> list[Kept]:
        rule = self.spec.filter
        if not part.labelled and rule.kind == "exact":
            rule = rule.model_copy(update={"kind": "sure"})
        return keep(told.answer, told.tracks, rule)

    def _pairs(self, kept: list[Kept], told: TeacherAnswer, part: Part) -> Pairs:
        if part.labelled and self.spec.associate == "labels":
            return associate_by_label(kept, part.lesson, told.clips, told.places)
        return associate_by_prediction(
            kept, told.answer, part.lesson.answer, told.clips, told.places, self.spec.pair_iou
        )

    def _knowledge(self, pairs: Pairs, told: TeacherAnswer, part: Part) -> PairBatch:
        features, views = self.features(pairs, told.answer, part.lesson.answer)
        pad = part.batch.seen_by_student().pad.flatten(0, 1)
        known = self.known.to(pad.device)
        return PairBatch(pairs, told, part.lesson.answer, pad, features, views, known, self.spec.temperature)


def _check(spec: Distill) -> None:
    """What of a recipe cannot go together."""
    if not spec.teacher:
        raise UserError("distill.teacher: name the model folder of a teacher (ookd distill --teacher DIR)")
    if spec.associate == "labels" and spec.filter.kind != "exact":
        raise UserError(
            f"distill.filter: {spec.filter.kind} asks no labels, so pairs cannot be found by them: "
            "set distill.associate=prediction, or distill.filter.kind=exact"
        )
    if spec.cache is not None and spec.filter.kind == "none":
        raise UserError("distill.cache: filter: none needs what a cache leaves out; run without the cache")


def factor(signal: Signal, step: Any) -> Tensor:
    """Rises over `warmup` steps, stays, and falls to 0 over the last `decay` steps before `until`."""
    up = (step + 1) / max(1, signal.warmup)
    down = torch.ones(()) if signal.until is None else (signal.until - step) / max(1, signal.decay)
    return torch.minimum(torch.as_tensor(up, dtype=torch.float32), torch.as_tensor(down)).clamp(0, 1)
