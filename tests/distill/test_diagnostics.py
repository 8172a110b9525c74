"""What a run reports about teacher and signals, on numbers made by hand."""

from __future__ import annotations

import pytest
import torch

from distill.scene import pair_batch, query_pairs
from ookd.config import Filter
from ookd.distill.diagnostics import Diagnostics
from ookd.distill.qfa import keep
from ookd.distill.teacher import TeacherAnswer
from ookd.structures import ClipQueries, Tracks

# three instances in one frame of 2 x 8: two of class 0, one of class 2; the last is out of view
MASKS = torch.zeros(3, 1, 2, 8, dtype=torch.bool)
MASKS[0, :, :, :4] = True
MASKS[1, :, :, 4:] = True
TRACKS = Tracks(
    torch.tensor([0, 2, 0]),
    torch.arange(3),
    torch.zeros(3, 1, 4),
    MASKS,
    torch.tensor([[True], [True], [False]]),
)


def teacher_answer(second_class: int) -> TeacherAnswer:
    """Query 0 covers instance 0 with the right class; query 1 three quarters of instance 1."""
    tubes = torch.full((1, 2, 1, 2, 8), -9.0)
    tubes[0, 0, :, :, :4] = 9
    tubes[0, 1, :, :, 5:] = 9
    logits = torch.full((1, 2, 3), -9.0)
    logits[0, 0, 0] = logits[0, 1, second_class] = 3.0
    features = torch.zeros(1, 2, 4)
    queries = ClipQueries(logits, None, features, features.unsqueeze(1), lambda select: tubes[:, select[0]])
    return TeacherAnswer(queries, [TRACKS], torch.tensor([0]), torch.tensor([[0]]))


def test_exactness_counts_instances_in_view_class_by_class() -> None:
    diagnostics = Diagnostics(4, ["class"])
    for second_class in (2, 1):
        answer = teacher_answer(second_class)
        kept = keep(answer.queries, answer.tracks, Filter(min_iou=0.9))
        diagnostics.count_exact(answer, kept)
    report = diagnostics.report()
    assert report["exact_0"].item() == 1.0
    assert report["exact_2"].item() == 0.5  # the overlap of 3/4 is enough, the wrong class is not
    assert report["exact_all"].item() == pytest.approx(3 / 4)
    assert "exact_1" not in report
    assert "exact_3" not in report


def test_pull_is_the_ratio_of_gradient_norms_at_the_features() -> None:
    diagnostics = Diagnostics(1, ["class", "mask"])
    features = [torch.ones(2, 2, requires_grad=True), torch.ones(2, 2, requires_grad=True)]
    own = (3 * features[0]).sum()  # norm 3 * sqrt(4)
    kd = {"class": features[0].sum() + features[1].sum(), "mask": torch.zeros(())}  # norm sqrt(8)
    diagnostics.measure_pull(own, kd, features)
    report = diagnostics.report()
    assert report["share_class"].item() == pytest.approx(8**0.5 / 6)
    assert report["share_mask"].item() == 0.0


def test_agreement_on_class_and_mask_over_the_pairs() -> None:
    """The student says class 0 of everything, so does the teacher; its masks cover half of the teacher's."""
    embed = torch.ones(2, 2, 2)
    drawn = torch.full((2, 2, 4, 4), -9.0)
    drawn[..., :2] = 9.0
    tubes = torch.full((1, 2, 2, 4, 4), -9.0)
    tubes[:, 0] = 9.0
    where = query_pairs([0, 1], [0, 1], [0, 1], [1.0, 1.0])
    batch = pair_batch(embed, torch.ones(1, 2, 2), where, student_masks=drawn, teacher_masks=tubes)
    batch.student.logits[..., 0] = 1.0
    batch.teacher.logits = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    diagnostics = Diagnostics(2, [])
    diagnostics.measure_agreement([batch])
    assert diagnostics.report()["agree_class"].item() == 0.5
    assert diagnostics.report()["agree_iou"].item() == pytest.approx((0.5 + 0.0) / 2)
