"""Bounds that hold for a set in any format: classes and their names, tracks in a video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ookd import limits
from ookd.data.formats.problems import Problem, Report
from ookd.data.formats.records import shown
from ookd.structures import Category, Dataset


def keep_bounds(dataset: Dataset, file: Path, report: Report) -> None:
    """Report what exceeds a limit; tracks beyond theirs are left out."""
    check_classes(dataset.categories, file, report)
    for video in dataset.videos:
        if (fault := limits.TRACKS.exceeded(len(video.tracks))) is not None:
            report(Problem(file, f"video {video.id}", f"has {fault}"))
            del video.tracks[limits.TRACKS.most :]


def check_classes(categories: Sequence[Category], file: Path, report: Report) -> None:
    """Names of classes are shown everywhere, so they are short and have no control characters."""
    if (fault := limits.CLASSES.exceeded(len(categories))) is not None:
        report(Problem(file, "", f"has {fault}"))
    for category in categories:
        where = f"category {category.id}"
        if (fault := limits.CLASS_NAME.exceeded(len(category.name))) is not None:
            report(Problem(file, where, f"its name has {fault}"))
        elif not category.name.isprintable():
            what = f"the name {shown(category.name)} holds characters that cannot be shown"
            report(Problem(file, where, what))
