"""How far a student and its teacher agree on videos that neither was trained on, class by class.

There is no truth here: both may be wrong. The labels are the teacher's, the predictions the student's. A
track of each makes a pair if their tubes overlap enough, whatever their classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from ookd.evaluation.report import Report
from ookd.evaluation.video import MeasuredVideo

PAIRED = 0.5  # overlap of tubes from which two tracks show the same object


@dataclass(frozen=True, slots=True)
class ClassAgreement:
    """One class, or all together."""

    teacher: int  # tracks of the teacher, without its doubtful ones
    student: int  # tracks of the student that count, without those on doubtful ones of the teacher
    both: int  # pairs of this class
    renamed: int  # tracks of the teacher to which the student gives another class
    overlap: float | None  # of the pairs' tubes, in the mean; None: there is none

    @property
    def found(self) -> float | None:
        """The share of the teacher's tracks that the student has, under the same class."""
        return self.both / self.teacher if self.teacher else None

    @property
    def confirmed(self) -> float | None:
        """The share of the student's tracks that the teacher has, under the same class."""
        return self.both / self.student if self.student else None


@dataclass(frozen=True, slots=True)
class Agreement:
    """All classes together, and each."""

    videos: int
    all: ClassAgreement
    per_class: dict[str, ClassAgreement]

    def as_dict(self) -> dict[str, Any]:
        def row(one: ClassAgreement) -> dict[str, Any]:
            return {**asdict(one), "found": one.found, "confirmed": one.confirmed}

        classes = {name: row(one) for name, one in self.per_class.items()}
        return {"videos": self.videos, "all": row(self.all), "per_class": classes}


@dataclass(slots=True)
class _Pairs:
    """Of one video: labels of the tracks of both, and the pairs with their overlap."""

    teacher: list[int]
    student: list[int]
    paired: list[tuple[int, int, float]]  # teacher's label, student's label, overlap


def agreement(report: Report) -> Agreement:
    """From a report of a student's predictions against a teacher's labels."""
    found = [_pairs(video, report.min_score) for video in report.measured]
    names = list(report.per_class)
    rows = {name: _row(found, [label]) for label, name in enumerate(names)}
    return Agreement(report.videos, _row(found, range(len(names))), rows)


def _pairs(video: MeasuredVideo, least: float) -> _Pairs:
    sure = ~video.crowd
    shown = video.score >= least
    if video.crowd.any():  # what the teacher doubts is no disagreement
        shown &= video.iou[:, video.crowd].max(1, initial=0.0) < PAIRED
    iou = video.iou[shown][:, sure]
    student, teacher = video.label[shown], video.truth_label[sure]
    rows, columns = linear_sum_assignment(-iou)
    paired = [
        (int(teacher[g]), int(student[d]), float(iou[d, g]))
        for d, g in zip(rows, columns, strict=True)
        if iou[d, g] >= PAIRED
    ]
    return _Pairs(teacher.tolist(), student.tolist(), paired)


def _row(videos: Sequence[_Pairs], labels: Sequence[int]) -> ClassAgreement:
    wanted = set(labels)
    pairs = [pair for video in videos for pair in video.paired if pair[0] in wanted]
    same = [overlap for teacher, student, overlap in pairs if teacher == student]
    return ClassAgreement(
        sum(label in wanted for video in videos for label in video.teacher),
        sum(label in wanted for video in videos for label in video.student),
        len(same),
        len(pairs) - len(same),
        float(np.mean(same)) if same else None,
    )
