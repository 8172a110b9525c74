"""A student's training with a teacher: who learns, who does not, and that without signals it is plain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from engine.test_loop import curve, stop_at, train
from ookd.config import Signal
from ookd.distill import task as room
from ookd.distill.frame_signals import FRAME_SIGNALS, FrameBatch, FrameSignal
from ookd.distill.pair_signals import PAIR_SIGNALS, PairBatch, PairSignal
from ookd.distill.qfa import keep
from ookd.distill.task import factor
from ookd.engine.loop import Interrupted
from ookd.errors import UserError
from ookd.models import zoo
from ookd.models.families import preset

SMALL = {"width": 32, "mask_width": 16, "embed": 16, "heads": 4, "hidden": 64, "queries": 8}
LONG = ["data.frames={kind: distill, length: 4}", "run.steps=6", "run.save_every=3"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained teacher of another width that knows the world's classes in another order, and one more."""
    from ookd.worlds import World

    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("teacher")
    names = ["kite", *reversed(World("ytvis-like").names)]
    model = zoo.build(preset("nano-clip", classes=len(names), clip_queries=6, **{**SMALL, "width": 48}))
    zoo.save_pretrained(model, folder, names, overwrite=True)
    return folder


def distilling(teacher: Path, signals: str) -> str:
    rule = "filter: {kind: none}, associate: prediction, pair_iou: 0"
    return f"distill={{teacher: {teacher}, {rule}, signals: {{{signals}}}}}"


def losses(folder: Path) -> list[dict[str, float]]:
    """Everything that each step reports as a loss."""
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def own_loss(folder: Path) -> list[float]:
    return [line["class"] for line in losses(folder)]


SIGNALS = [*PAIR_SIGNALS, *FRAME_SIGNALS]
EVERY = ", ".join(f"{name}: {{weight: 1}}" for name in SIGNALS)


def test_switched_off_it_is_plain_training_to_the_bit(teacher: Path, tmp_path: Path) -> None:
    train(tmp_path / "plain", *LONG)
    train(tmp_path / "off", *LONG, distilling(teacher, "relation: {weight: 0}"))
    train(tmp_path / "on", *LONG, distilling(teacher, "relation: {weight: 1}"))
    assert curve(tmp_path / "off") == curve(tmp_path / "plain")
    # the taught student itself goes another way: its own loss differs, not only the sum with the signal
    assert own_loss(tmp_path / "on")[0] == own_loss(tmp_path / "plain")[0]
    assert own_loss(tmp_path / "on")[-1] != own_loss(tmp_path / "plain")[-1]


def test_the_student_learns_and_the_teacher_does_not(teacher: Path, tmp_path: Path) -> None:
    before = load_file(teacher / "model.safetensors")
    trainer = train(tmp_path, *LONG, distilling(teacher, EVERY))
    task = trainer.accelerator.unwrap_model(trainer.task)
    held = task.teacher.model.state_dict()
    assert all(torch.equal(held[name], value) for name, value in before.items())
    assert all(name.startswith(("student.", "signals.")) for name, _ in task.named_parameters())
    early, late = (tmp_path / "checkpoints" / f"step-{step:08d}" for step in (3, 6))
    for file, name in (("beside", "signals.relation.to_student.weight"), ("model", "heads.embed.2.weight")):
        first, last = (load_file(step / f"{file}.safetensors")[name] for step in (early, late))
        assert not torch.equal(first, last)
    loss = losses(tmp_path)[-1]
    assert all(f"kd_{name}" in loss for name in SIGNALS)
    assert loss["kept_share"] == 1.0
    assert 0 < loss["share_relation"] < 100
    assert 0 <= loss["agree_iou"] <= 1


@pytest.mark.parametrize("signal", ["relation", "pixels"])
def test_resuming_keeps_what_the_task_has_beside_the_model(
    signal: str, teacher: Path, tmp_path: Path
) -> None:
    changes = [*LONG, distilling(teacher, f"{signal}: {{weight: 1, warmup: 6}}")]
    train(tmp_path / "whole", *changes)
    with pytest.raises(Interrupted):
        stop_at(4, tmp_path / "cut", *changes)
    train(tmp_path / "cut", *changes)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


HALF = [
    "data.train=[{kind: world, videos: 6, change: {height: 64, width: 96, frames: 6, crowd: [2, 3]}}, "
    "{kind: world, videos: 6, seed: 1, unlabelled: true, "
    "change: {height: 64, width: 96, frames: 6, crowd: [2, 3]}}]",
    "data.minor_paste={probability: 1.0}",
]


def test_clips_without_labels_teach_through_the_teacher_alone(teacher: Path, tmp_path: Path) -> None:
    """Batches of one clip: where it has no labels, the student's own terms are 0 and the signals are not."""
    taught = distilling(teacher, "class: {weight: 1}, relation: {weight: 1}")
    trainer = train(tmp_path, *LONG, *HALF, "data.batch=1", "run.steps=8", taught)
    lines = losses(tmp_path)
    own = trainer.weights.keys() - {"kd_class", "kd_relation"}
    bare = [line for line in lines if all(line[name] == 0 for name in own)]
    labelled = [line for line in lines if line["class"] > 0 and line["heat"] > 0]
    assert len(bare) + len(labelled) == len(lines)
    assert bare
    assert labelled
    assert all(line["kd_class"] > 0 for line in lines)
    assert all(line.keys() == lines[0].keys() for line in lines)


def test_a_mixed_batch_is_the_labelled_part_for_the_students_own_terms(teacher: Path, tmp_path: Path) -> None:
    trainer = train(tmp_path, *LONG, *HALF, "run.steps=1", distilling(teacher, "class: {weight: 1}"))
    task = trainer.accelerator.unwrap_model(trainer.task)
    batches = iter(trainer.loader)
    mixed = next(b for b in batches if {origin.labelled for origin in b.origins} == {True, False})
    labelled = mixed.pick([b for b, origin in enumerate(mixed.origins) if origin.labelled])
    whole, alone = task(mixed), task(labelled)
    assert all(torch.equal(whole[name], alone[name]) for name in task.student.weights)
    assert whole["kd_class"] != alone["kd_class"]


@pytest.mark.parametrize(("signals", "frames"), [("shared: {weight: 1}", 2), (EVERY, 4)])
def test_the_teacher_sees_no_more_than_a_signal_needs(
    signals: str, frames: int, teacher: Path, tmp_path: Path
) -> None:
    trainer = train(tmp_path, *LONG, "run.steps=1", distilling(teacher, signals))
    task = trainer.accelerator.unwrap_model(trainer.task)
    batch = next(iter(trainer.loader))
    seen: list[tuple[int, ...]] = []
    task.teacher.model.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape)))
    own = task.eval()(batch)["class"]
    assert [shape[1] for shape in seen] == [frames]
    assert torch.equal(own, task.student(batch)["class"])


def test_without_pair_signals_nothing_is_filtered_between_measurements(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measuring at every second step changes no loss, and its numbers are repeated in between."""
    signals = distilling(teacher, "pixels: {weight: 1}, shared: {weight: 1}")
    train(tmp_path / "usual", *LONG, signals)
    monkeypatch.setattr(room, "INTERVAL", 2)
    calls = []

    def counted(*given: Any) -> Any:
        calls.append(given)
        return keep(*given)

    monkeypatch.setattr(room, "keep", counted)
    train(tmp_path / "often", *LONG, signals)
    assert len(calls) == 3  # in 6 steps
    assert curve(tmp_path / "often") == curve(tmp_path / "usual")
    lines = losses(tmp_path / "often")
    for name in ("kept_share", "kept_pairs"):
        values = [line[name] for line in lines]
        assert values[0] > 0
        assert values[0::2] == values[1::2]


class ClassAgreement(PairSignal):
    """A signal over pairs in one class: teacher and student should be equally sure of the best class."""

    def forward(self, batch: PairBatch) -> tuple[Tensor, Tensor]:
        pairs = batch.pairs
        student = batch.student.logits[pairs.frame, pairs.student].amax(-1)
        return batch.weighted((student - batch.teacher.logits[pairs.clip, pairs.teacher].amax(-1)) ** 2)


class Confidence(FrameSignal):
    """A signal over frames in one class: both models should be equally sure of a frame's best query."""

    def __init__(self, example: FrameBatch) -> None:
        super().__init__(example)
        self.scale = nn.Parameter(torch.ones(example.student.embed.shape[-1]))

    def forward(self, batch: FrameBatch) -> tuple[Tensor, Tensor]:
        student = (batch.student.embed[batch.student_frames] * self.scale).amax((1, 2))
        return ((student - batch.teacher.logits.amax()) ** 2).sum(), student.new_tensor(len(student))


def test_a_new_signal_of_each_kind_is_one_class(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PAIR_SIGNALS, "agreement", ClassAgreement)
    monkeypatch.setitem(FRAME_SIGNALS, "confidence", Confidence)
    taught = distilling(teacher, "agreement: {weight: 1}, confidence: {weight: 1}")
    trainer = train(tmp_path, *LONG, "run.steps=1", taught)
    task = trainer.accelerator.unwrap_model(trainer.task)
    terms = task(next(iter(trainer.loader)))
    for name in ("kd_agreement", "kd_confidence"):
        trainer.optimizer.zero_grad()
        assert terms[name] > 0
        terms[name].backward(retain_graph=True)
        gradients = [p.grad for p in task.student.parameters() if p.grad is not None]
        assert any(gradient.abs().sum() > 0 for gradient in gradients)
    assert task.signals["confidence"].scale.grad.abs().sum() > 0


def test_an_unknown_signal_is_named(teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no signal relaton; did you mean relation\?"):
        train(tmp_path, *LONG, distilling(teacher, "relaton: {weight: 1}"))


def test_an_unlabelled_source_needs_a_teacher(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="use ookd distill"):
        train(tmp_path, *HALF)


def test_classes_are_mapped_by_name(teacher: Path, tmp_path: Path) -> None:
    trainer = train(tmp_path, *LONG, "run.steps=1", distilling(teacher, EVERY))
    task = trainer.accelerator.unwrap_model(trainer.task)
    assert task.teacher._columns.tolist() == [[label] for label in range(len(trainer.names), 0, -1)]


@pytest.mark.parametrize("control", ["shuffled", "classes", "instances"])
def test_a_stand_in_changes_what_is_taught(control: str, teacher: Path, tmp_path: Path) -> None:
    taught = distilling(teacher, "key: {weight: 1}, embedding: {weight: 1}")
    train(tmp_path / "own", *LONG, "run.steps=2", taught)
    train(tmp_path / "other", *LONG, "run.steps=2", taught, f"distill.control={control}")
    assert curve(tmp_path / "own")[0] != curve(tmp_path / "other")[0]


def test_pairs_by_label_need_a_filter_by_label(teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"distill\.associate=prediction"):
        train(tmp_path, *LONG, f"distill={{teacher: {teacher}, filter: {{kind: sure}}}}")


def test_a_teacher_must_see_clips(tmp_path: Path) -> None:
    model = zoo.build(preset("nano", classes=2, **SMALL))
    zoo.save_pretrained(model, tmp_path / "frame", ["a", "b"])
    with pytest.raises(UserError, match="a teacher sees whole clips"):
        train(tmp_path / "run", *LONG, distilling(tmp_path / "frame", EVERY))
    other = zoo.build(preset("nano-clip", classes=2, **SMALL))
    zoo.save_pretrained(other, tmp_path / "clip", ["a", "b"])
    with pytest.raises(UserError, match="knows none of the classes"):
        train(tmp_path / "run2", *LONG, distilling(tmp_path / "clip", EVERY))


def test_schedule_rises_stays_and_falls() -> None:
    spec = Signal(weight=1, warmup=4, until=20, decay=5)
    assert [round(factor(spec, step).item(), 3) for step in (0, 1, 3, 10, 15, 17, 19, 20, 30)] == [
        0.25, 0.5, 1.0, 1.0, 1.0, 0.6, 0.2, 0.0, 0.0,
    ]  # fmt: skip
    assert factor(Signal(weight=1), 0).item() == 1
