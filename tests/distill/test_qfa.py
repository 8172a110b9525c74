"""Query filtering and association on queries made by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ookd.config import Filter
from ookd.distill.qfa import associate_by_label, associate_by_prediction, keep, tube_iou
from ookd.structures import ClipQueries, FrameQueries, StudentMatches, Tracks

# One clip of three frames, 4 x 8 cells. Instance 0 (class 0) fills the left half, instance 1 (class 1) the
# right quarter, but only in frames 1 and 2.
LEFT = torch.zeros(3, 4, 8)
LEFT[:, :, :4] = 1
RIGHT = torch.zeros(3, 4, 8)
RIGHT[1:, :, 6:] = 1
TRACKS = Tracks(
    torch.tensor([0, 1]),
    torch.tensor([5, 6]),
    torch.zeros(2, 3, 4),
    torch.stack([LEFT, RIGHT])
    .bool()
    .repeat_interleave(2, 2)
    .repeat_interleave(2, 3),  # at twice the resolution
    torch.tensor([[True, True, True], [False, True, True]]),
)


def teacher(scores: list[list[float]], tubes: list[Tensor]) -> ClipQueries:
    """Queries with class probabilities [Q, 2] and tubes Q x [3, 4, 8]."""
    masks = torch.stack(tubes)[None] * 20 - 10
    features = torch.arange(float(len(tubes)))[None, :, None]
    logits = torch.tensor(scores).logit()[None]
    return ClipQueries(logits, None, features, features, lambda select: masks[:, select[0]])


def frames(scores: list[list[float]], masks: list[Tensor]) -> FrameQueries:
    """The same queries in both student frames: class probabilities [R, 2] and masks R x [4, 8]."""
    logits = torch.tensor(scores).logit().expand(2, -1, -1)
    drawn = (torch.stack(masks) * 20 - 10).expand(2, -1, -1, -1)
    return FrameQueries(
        logits, None, logits, logits, lambda select: drawn[torch.arange(2).unsqueeze(1), select]
    )


ONE = torch.tensor([0])  # the only clip of its batch
NOWHERE = torch.zeros(3, 4, 8)
PART = LEFT.clone()
PART[:, :, 1:] = 0  # a quarter of the left half


def test_tube_iou_counts_all_frames() -> None:
    half = LEFT.clone()
    half[0] = 0
    iou = tube_iou(torch.stack([LEFT, half, NOWHERE]) > 0, torch.stack([LEFT, NOWHERE]))
    torch.testing.assert_close(iou, torch.tensor([[1.0, 0.0], [2 / 3, 0.0], [0.0, 0.0]]))


def test_irrelevant_queries_are_never_kept() -> None:
    """Query 0 covers nothing, query 3 repeats the left one less surely; 1 and 2 are exact."""
    queries = teacher([[0.9, 0.1], [0.1, 0.6], [0.8, 0.1], [0.4, 0.1]], [NOWHERE, RIGHT, LEFT, LEFT])
    kept = keep(queries, [TRACKS], Filter(kind="exact", gamma=1.0))[0]
    assert dict(zip(kept.instance.tolist(), kept.query.tolist(), strict=True)) == {0: 2, 1: 1}
    weight = dict(zip(kept.instance.tolist(), kept.weight.tolist(), strict=True))
    assert weight == pytest.approx({0: 0.8, 1: 0.6})


@pytest.mark.parametrize(
    ("scores", "tube"),
    [
        ([0.1, 0.9], LEFT),  # wrong class
        ([0.9, 0.1], PART),  # a quarter of the mask
        ([0.2, 0.1], LEFT),  # not sure
    ],
)
def test_an_inexact_query_does_not_pass(scores: list[float], tube: Tensor) -> None:
    queries = teacher([scores, [0.1, 0.9]], [tube, RIGHT])
    kept = keep(queries, [TRACKS], Filter(kind="exact", min_iou=0.5, min_score=0.3))[0]
    assert kept.instance.tolist() == [1]


def test_a_frame_in_which_the_mask_is_wrong_is_not_taught() -> None:
    """The tube is right as a whole. In frame 1 the teacher sees nothing, in frame 2 too little."""
    partly = LEFT.clone()
    partly[1] = 0
    partly[2, :, 1:] = 0
    queries = teacher([[0.9, 0.1]], [partly])
    student = frames([[0.9, 0.1]], [LEFT[0]])
    valid = torch.ones(2, 2, dtype=torch.bool)
    matches = StudentMatches(student, torch.zeros(2, 2, dtype=torch.long), valid)
    for least, taught in ((0.0, [0, 1, 2]), (0.2, [0, 2]), (0.5, [0])):
        kept = keep(queries, [TRACKS], Filter(kind="exact", min_iou=0.4, min_frame_iou=least))
        found = [
            place
            for place in range(3)
            if len(associate_by_label(kept, matches, ONE, torch.tensor([[place, place]])))
        ]
        assert found == taught


def test_weights_are_score_times_overlap_to_a_power() -> None:
    most = LEFT.clone()
    most[0, :, :1] = 0  # 44 of 48 cells
    queries = teacher([[0.81, 0.1]], [most])
    kept = keep(queries, [TRACKS], Filter(kind="exact", gamma=0.5))[0]
    assert kept.weight.item() == pytest.approx((0.81 * 44 / 48) ** 0.5)


def test_without_labels_sure_queries_stay_and_repetitions_go() -> None:
    queries = teacher(
        [[0.5, 0.1], [0.9, 0.1], [0.1, 0.6], [0.2, 0.1], [0.7, 0.1]], [LEFT, LEFT, RIGHT, PART, NOWHERE]
    )
    kept = keep(queries, [TRACKS], Filter(kind="sure", min_score=0.3, tube_nms=0.6))[0]
    assert kept.query.tolist() == [1, 2]
    assert kept.instance.tolist() == [-1, -1]
    everything = keep(queries, [TRACKS], Filter(kind="none"))[0]
    assert sorted(everything.query.tolist()) == [0, 1, 2, 3, 4]


def test_an_instance_out_of_view_makes_no_pair_in_that_frame() -> None:
    """The student saw frames 0 and 2 and answers with queries 3 and 1; instance 1 is not in frame 0."""
    queries = teacher([[0.9, 0.1], [0.1, 0.9]], [LEFT, RIGHT])
    kept = keep(queries, [TRACKS], Filter(kind="exact"))
    seen = TRACKS.at(torch.tensor([0, 2]))
    answer = frames([[0.5, 0.5]], [LEFT[0]])
    student = StudentMatches(answer, torch.tensor([[3, 1], [3, 1]]), seen.visible.T)
    pairs = associate_by_label(kept, student, ONE, torch.tensor([[0, 2]]))
    rows = sorted(
        zip(
            pairs.frame.tolist(),
            pairs.place.tolist(),
            pairs.teacher.tolist(),
            pairs.student.tolist(),
            strict=True,
        )
    )
    assert rows == [(0, 0, 0, 3), (1, 2, 0, 3), (1, 2, 1, 1)]


def test_an_unkept_instance_makes_no_pair_although_the_student_found_it() -> None:
    queries = teacher([[0.9, 0.1], [0.9, 0.1]], [LEFT, RIGHT])  # the right one has the wrong class
    kept = keep(queries, [TRACKS], Filter(kind="exact"))
    student = StudentMatches(
        frames([[0.5, 0.5]], [LEFT[0]]), torch.tensor([[3, 1], [3, 1]]), TRACKS.visible.T[1:]
    )
    pairs = associate_by_label(kept, student, ONE, torch.tensor([[1, 2]]))
    assert pairs.student.tolist() == [3, 3]


def test_a_clip_is_taught_in_the_frames_of_its_place_in_the_batch() -> None:
    """The teacher speaks of the second clip alone, whose frames are 2 and 3 of the student's."""
    queries = teacher([[0.9, 0.1]], [LEFT])
    kept = keep(queries, [TRACKS], Filter(kind="exact"))
    shown = torch.tensor([[False, False], [False, False], [True, False], [True, True]])
    student = StudentMatches(
        frames([[0.5, 0.5]], [LEFT[0]]), torch.tensor([[0, 0], [0, 0], [5, 0], [6, 0]]), shown
    )
    pairs = associate_by_label(kept, student, torch.tensor([1]), torch.tensor([[0, 2]]))
    assert pairs.clip.tolist() == [0, 0]
    assert pairs.frame.tolist() == [2, 3]
    assert pairs.place.tolist() == [0, 2]
    assert pairs.student.tolist() == [5, 6]


def test_association_by_prediction_needs_overlap_in_the_frame() -> None:
    """Student queries: 0 right, 1 left, 2 nothing. In frame 0 the teacher's right tube is empty."""
    queries = teacher([[0.9, 0.1], [0.1, 0.9]], [LEFT, RIGHT])
    kept = keep(queries, [TRACKS], Filter(kind="sure"))
    answer = frames([[0.1, 0.8], [0.8, 0.1], [0.5, 0.5]], [RIGHT[2], LEFT[2], NOWHERE[0]])
    pairs = associate_by_prediction(kept, queries, answer, ONE, torch.tensor([[0, 2]]), min_iou=0.5)
    rows = sorted(zip(pairs.frame.tolist(), pairs.teacher.tolist(), pairs.student.tolist(), strict=True))
    assert rows == [(0, 0, 1), (1, 0, 1), (1, 1, 0)]


def test_nothing_kept_makes_no_pairs() -> None:
    queries = teacher([[0.01, 0.01]], [NOWHERE])
    seen = torch.tensor([[1, 2]])
    for kind in ("exact", "sure"):
        kept = keep(queries, [TRACKS], Filter(kind=kind))  # type: ignore[arg-type]
        student = StudentMatches(
            frames([[0.5, 0.5]], [LEFT[0]]), torch.tensor([[0, 0], [0, 0]]), TRACKS.visible.T[1:]
        )
        assert len(associate_by_label(kept, student, ONE, torch.tensor([[1, 2]]))) == 0
        assert len(associate_by_prediction(kept, queries, student.answer, ONE, seen, 0.5)) == 0
