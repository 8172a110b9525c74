"""Stand-ins for the teacher's features, on numbers made by hand."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.scene import query_pairs
from ookd.distill.controls import CONTROLS
from ookd.structures import ClipQueries, FrameQueries

FEATURES = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [[0.0, 0.0, 1.0], [5.0, 5.0, 5.0]]])
VIEWS = torch.stack([FEATURES * 10, FEATURES * 20], 1)  # [2, 2, 2, 3]
LABELS = torch.tensor([[0, 1], [0, 1]])
TEACHER = ClipQueries(
    F.one_hot(LABELS, 2).float() * 8 - 4, None, FEATURES, VIEWS, lambda select: torch.zeros(0)
)
# clip 0 shows queries 0 and 1, clip 1 only query 0, in both frames
WHERE = query_pairs([0, 0, 1, 2, 3], [0, 1, 0, 0, 0], [0, 1, 0, 0, 0], [1.0] * 5, [0, 0, 0, 1, 1])
EMBED = torch.tensor([[[2.0, 0.0], [0.0, 3.0]], [[0.0, 1.0], [1.0, 1.0]], [[1.0, 0.0]] * 2, [[1.0, 0.0]] * 2])
ANSWER = FrameQueries(torch.zeros(4, 2, 2), None, EMBED, EMBED, lambda select: torch.zeros(0))


def test_without_a_control_features_are_the_teachers() -> None:
    features, views = CONTROLS[None](2, 3, 2)(WHERE, TEACHER, ANSWER)
    assert features.tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 1]]
    assert views.tolist() == [[10, 0, 0], [0, 10, 0], [20, 0, 0], [0, 0, 10], [0, 0, 20]]


def test_shuffled_gives_every_instance_another_one_s() -> None:
    """The three instances in order pass theirs on: 0 gets 1's, 1 that of the next clip, which gets 0's."""
    features, views = CONTROLS["shuffled"](2, 3, 2)(WHERE, TEACHER, ANSWER)
    assert features.tolist() == [[0, 1, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0], [1, 0, 0]]
    assert views.tolist() == [[0, 10, 0], [0, 0, 10], [0, 20, 0], [10, 0, 0], [20, 0, 0]]


def test_class_prototypes_are_means_over_what_was_seen_of_the_class() -> None:
    control = CONTROLS["classes"](2, 3, 2)
    features, views = control(WHERE, TEACHER, ANSWER)
    first = [0.5, 0.0, 0.5]  # class 0: query 0 of clip 0 twice, query 0 of clip 1 twice
    assert features.tolist() == views.tolist() == [first, [0, 1, 0], first, first, first]
    only = query_pairs([0], [0], [0], [1.0])
    assert control(only, TEACHER, ANSWER)[0].tolist() == [[0.75, 0.0, 0.25]]  # the mean of two steps
    control.eval()
    assert control(only, TEACHER, ANSWER)[0].tolist() == [[0.75, 0.0, 0.25]]


def test_instance_prototypes_are_the_students_own_mean_and_teach_no_gradient() -> None:
    embed = EMBED.clone().requires_grad_()
    answer = FrameQueries(torch.zeros(4, 2, 2), None, embed, embed, lambda select: torch.zeros(0))
    control = CONTROLS["instances"](2, 3, 2)
    features, _ = control(WHERE, TEACHER, answer)
    assert control.width == 2
    half = 0.5**0.5
    expected: Tensor = torch.tensor([[half, half], [0.0, 1.0], [half, half], [1.0, 0.0], [1.0, 0.0]])
    torch.testing.assert_close(features, expected)
    assert not features.requires_grad
