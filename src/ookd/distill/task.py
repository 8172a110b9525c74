"""A student's training with a teacher beside it."""

from __future__ import annotations

import difflib
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ookd.config import Data, Distill, Signal
from ookd.distill.cache import TeacherCache, cache_key
from ookd.distill.cached import CachedTeacher
from ookd.distill.controls import CONTROLS
from ookd.distill.diagnostics import INTERVAL, Diagnostics
from ookd.distill.frame_signals import FRAME_SIGNALS, FrameBatch, FrameSignal
from ookd.distill.pair_signals import PAIR_SIGNALS, PairBatch, PairSignal
from ookd.distill.qfa import KeptQueries, associate_by_label, associate_by_prediction, keep
from ookd.distill.teacher import LiveTeacher, TeacherAnswer
from ookd.errors import UserError
from ookd.models.families import family_of
from ookd.models.protocols import Network, StudentTask, TrainingTask
from ookd.structures import Batch, ClipQueries, FrameQueries, StudentMatches

log = logging.getLogger(__name__)


@dataclass(slots=True)
class StudentAnswer:
    """The clips of a batch that have labels, or those that have none, and what the student said of them."""

    batch: Batch
    matches: StudentMatches
    labelled: bool


class Distillation(TrainingTask):
    """Batch -> the student's own terms, `kd_*` terms for each signal in use, and diagnostics.

    The student sees its frames, the teacher the whole clip, or only the student's frames if no signal in use
    needs pairs. Such a run filters and pairs only for the diagnostics, at their interval. Clips without
    labels add to the signals alone.
    """

    _step: Tensor  # [] training steps so far

    def __init__(
        self, student: StudentTask, spec: Distill, names: list[str], data: Data | None = None
    ) -> None:
        super().__init__()
        check_recipe(spec)
        self.student = student
        self.family = family_of(student.model)
        self.spec = spec
        self.used: dict[str, Signal] = {name: one for name, one in spec.signals.items() if one.weight > 0}
        live = LiveTeacher(spec, names)
        if spec.teacher_side is not None and spec.cache is None:
            log.warning(
                "distill.teacher_side: the teacher sees the student's frames enlarged to %d; with a cache "
                "(--cache) it sees the original ones",
                spec.teacher_side,
            )
        self.known = live.known
        example = _example(self.model, live.model)
        self.features = CONTROLS[spec.control](
            len(names), example.teacher.features.shape[-1], example.student.embed.shape[-1]
        )
        self.signals = nn.ModuleDict({name: self._make(name, example) for name in self.used})
        self.diagnostics = Diagnostics(len(names), list(self.used))
        self.register_buffer("_step", torch.zeros((), dtype=torch.long))
        self._over_pairs = any(isinstance(signal, PairSignal) for signal in self.signals.values())
        self._over_frames = any(isinstance(signal, FrameSignal) for signal in self.signals.values())
        self.teacher: LiveTeacher | CachedTeacher = live
        if spec.cache is not None and data is not None:
            cache = TeacherCache(Path(spec.cache), cache_key(live.model, data, spec))
            self.teacher = CachedTeacher(live, cache, frames=self._over_frames)
        self.weights: dict[str, float] = {**student.weights}
        self.weights |= {f"kd_{name}": signal.weight for name, signal in self.used.items()}

    @property
    def model(self) -> Network:  # type: ignore[override]
        return self.student.model

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        if not self._over_pairs:
            batch = batch.seen_by_student()
        terms, students = self._learn(batch)
        own = torch.stack([self.weights[k] * v for k, v in terms.items() if k in self.weights]).sum()
        measure = self.training and int(self._step) % INTERVAL == 0
        zero = own.new_zeros((), dtype=torch.float32)
        sums = dict.fromkeys(self.used, (zero, zero))
        pair_batches: list[PairBatch] = []
        queries = kept_queries = 0
        for student in students:
            for teacher in self.teacher.infer(student.batch):
                pair_batch = frame_batch = None
                if self._over_pairs or measure:
                    kept = self._keep(teacher, student)
                    pair_batch = self._pair_batch(kept, teacher, student)
                    pair_batches.append(pair_batch)
                    self.diagnostics.count_exact(teacher, kept)
                    queries += teacher.queries.logits.shape[0] * teacher.queries.logits.shape[1]
                    kept_queries += sum(len(one.query) for one in kept)
                if self._over_frames:
                    frame_batch = _frame_batch(teacher, student)
                for name, signal in self.signals.items():
                    total, weight = signal(pair_batch if isinstance(signal, PairSignal) else frame_batch)
                    sums[name] = sums[name][0] + total, sums[name][1] + weight
        signals = {
            name: total / weight.clamp(min=1e-6) * factor(self.used[name], self._step)
            for name, (total, weight) in sums.items()
        }
        if self._over_pairs or measure:
            instances = torch.stack([student.matches.valid.sum() for student in students]).sum()
            pairs = sum(len(one.pairs) for one in pair_batches)
            self.diagnostics.measure_kept(kept_queries, queries, pairs, instances)
        if measure:
            weighted = {name: self.used[name].weight * value for name, value in signals.items()}
            features = [student.matches.answer.features for student in students]
            self.diagnostics.measure_pull(own, weighted, features)
            self.diagnostics.measure_agreement(pair_batches)
        if self.training:
            self._step += 1
        terms |= {f"kd_{name}": value for name, value in signals.items()}
        return terms | self.diagnostics.report()

    def _make(self, name: str, example: FrameBatch) -> nn.Module:
        if name in FRAME_SIGNALS:
            return FRAME_SIGNALS[name](example)
        return PAIR_SIGNALS[name](self.features.width, example.student.embed.shape[-1])

    def _learn(self, batch: Batch) -> tuple[dict[str, Tensor], list[StudentAnswer]]:
        """The student's own terms, from the clips with labels, and its answers for all clips.

        Without any labelled clip, the terms are those of a clip taken for empty, times 0, so that their names
        and what ranks exchange stay the same.
        """
        labelled = [b for b, origin in enumerate(batch.origins) if origin.labelled]
        if not batch.origins or len(labelled) == len(batch.origins):
            terms, matches = self._learn_labelled(batch)
            return terms, [StudentAnswer(batch, matches, True)]
        bare = batch.pick([b for b in range(len(batch.origins)) if b not in labelled])
        answers = []
        if labelled:
            rest = batch.pick(labelled)
            terms, matches = self._learn_labelled(rest)
            answers.append(StudentAnswer(rest, matches, True))
        else:
            terms = {name: 0 * value for name, value in self.student.learn(batch.pick([0]))[0].items()}
        answer = self._with_class_logits(self.student.answer(bare))
        nothing = torch.zeros(len(answer.logits), 0, dtype=torch.long, device=answer.logits.device)
        answers.append(StudentAnswer(bare, StudentMatches(answer, nothing, nothing.bool()), False))
        return terms, answers

    def _learn_labelled(self, batch: Batch) -> tuple[dict[str, Tensor], StudentMatches]:
        terms, matches = self.student.learn(batch)
        return terms, replace(matches, answer=self._with_class_logits(matches.answer))

    def _with_class_logits(self, answer: FrameQueries) -> FrameQueries:
        """Logits whose sigmoid is the probability, as the teacher's are, whatever the student's family."""
        return replace(answer, logits=self.family.class_logits(answer.logits))

    def _keep(self, teacher: TeacherAnswer, student: StudentAnswer) -> list[KeptQueries]:
        rule = self.spec.filter
        if not student.labelled and rule.kind == "exact":
            rule = rule.model_copy(update={"kind": "sure"})
        return keep(teacher.queries, teacher.tracks, rule)

    def _pair_batch(
        self, kept: list[KeptQueries], teacher: TeacherAnswer, student: StudentAnswer
    ) -> PairBatch:
        answer, where = student.matches.answer, (teacher.clips, teacher.places)
        if student.labelled and self.spec.associate == "labels":
            pairs = associate_by_label(kept, student.matches, *where)
        else:
            pairs = associate_by_prediction(kept, teacher.queries, answer, *where, self.spec.pair_iou)
        features, frame_features = self.features(pairs, teacher.queries, answer)
        return PairBatch(
            pairs,
            teacher.queries,
            answer,
            features,
            frame_features,
            self.known.to(pairs.weight.device),
            self.spec.temperature,
        )


def _frame_batch(teacher: TeacherAnswer, student: StudentAnswer) -> FrameBatch:
    """The student's frames of the clips that the teacher speaks of."""
    assert teacher.frames is not None
    assert teacher.frame_places is not None
    steps = teacher.places.shape[1]
    step = torch.arange(steps, device=teacher.clips.device)
    student_frames = (teacher.clips.unsqueeze(1) * steps + step).flatten()
    clips, length = teacher.frames.frame_features.shape[:2]
    row = torch.arange(clips, device=teacher.clips.device).unsqueeze(1)
    teacher_frames = (row * length + teacher.frame_places).flatten()
    pad = student.batch.seen_by_student().pad.flatten(0, 1)
    return FrameBatch(student.matches.answer, teacher.frames, student_frames, teacher_frames, pad)


@torch.no_grad()
def _example(student: nn.Module, teacher: nn.Module) -> FrameBatch:
    """Both models' answers for one empty frame, which show how many channels things have."""

    def answer(model: nn.Module, *shape: int) -> Any:
        training, device = model.training, next(model.parameters()).device
        frames = torch.zeros(*shape, 3, 64, 64, device=device)
        pad = torch.zeros(*shape, 64, 64, dtype=torch.bool, device=device)
        found = model.eval()(frames, pad)
        model.train(training)
        return found

    frame_queries: FrameQueries = answer(student, 1)[0]
    clip_queries: ClipQueries = answer(teacher, 1, 1)
    first = torch.zeros(1, dtype=torch.long)
    return FrameBatch(frame_queries, clip_queries, first, first, torch.zeros(1, 64, 64, dtype=torch.bool))


def check_recipe(spec: Distill) -> None:
    """Raise a `UserError` for parts of a recipe that do not go together."""
    if not spec.teacher:
        raise UserError("distill.teacher: name the model folder of a teacher (ookd distill --teacher DIR)")
    for name in spec.signals:
        if name not in (known := [*PAIR_SIGNALS, *FRAME_SIGNALS]):
            near = difflib.get_close_matches(name, known, 1, 0.3)
            hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(known)}"
            raise UserError(f"distill.signals: there is no signal {name}; {hint}")
    if spec.associate == "labels" and spec.filter.kind != "exact":
        raise UserError(
            f"distill.filter: {spec.filter.kind} does not use labels, so pairs cannot be found by them: "
            "set distill.associate=prediction, or distill.filter.kind=exact"
        )
    if spec.cache is not None and spec.filter.kind == "none":
        raise UserError("distill.cache: filter: none needs what a cache leaves out; run without the cache")


def factor(signal: Signal, step: int | Tensor) -> Tensor:
    """Rises over `warmup` steps, stays, and falls to 0 over the last `decay` steps before `until`."""
    up = (step + 1) / max(1, signal.warmup)
    down = torch.ones(()) if signal.until is None else (signal.until - step) / max(1, signal.decay)
    return torch.minimum(torch.as_tensor(up, dtype=torch.float32), torch.as_tensor(down)).clamp(0, 1)
