"""A table of arms that were trained with several seeds: means over them, compared with the first arm.

Intervals are a bootstrap over videos and seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from measuring import Table
from ookd.evaluation.compare import RESAMPLINGS
from quality.association import Experiment

SCORES = ("ap", "share_kept")
COLUMNS = {
    "arm": "",
    "steps": "",
    "AP": ".1f",
    "of the seeds": "",
    "above": "+.1f",
    "low": "+.1f",
    "high": "+.1f",
    "returns kept": ".1f",
    "more kept": "+.1f",
    "from": "+.1f",
    "to": "+.1f",
}


def options(parser: argparse.ArgumentParser, test_videos: int, seed: int, out: str) -> None:
    """What every program with such a table asks."""
    add = parser.add_argument
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--set", nargs="*", default=[], metavar="KEY=VALUE", help="changes of all recipes")
    add("--tune-videos", type=int, default=100)
    add("--test-videos", type=int, default=test_videos)
    add("--trials", type=int, default=64)
    add("--seed", type=int, default=seed, help="of the tune videos; test videos have the next")
    add("--train-only", action="store_true", help="stop before test videos are looked at")
    add("--out", type=Path, default=Path(out))


@dataclass(frozen=True, slots=True)
class Judged:
    """An arm's scores."""

    training: str  # arms of one training share its seeds
    steps: int
    scores: Mapping[
        str, NDArray[np.float64]
    ]  # each [S, 1 + R]: of the test videos as they are, then resampled


def judge(
    given: argparse.Namespace, training: str, steps: int, models: Mapping[Path, str], association: str
) -> Judged:
    """The scores of models, one a seed, each with the folder where its detections and constants are kept."""
    scores = []
    for folder, model in models.items():
        own = argparse.Namespace(**{**vars(given), "model": model, "out": folder})
        scores.append(Experiment(own).scores(association))
    return Judged(training, steps, {name: np.stack([score[name] for score in scores]) for name in SCORES})


def add_rows(table: Table, arms: Mapping[str, Judged], more: Sequence[str] = ()) -> None:
    """One row an arm; the first is what all are compared with. Scores in `more` come last."""
    first = next(iter(arms.values()))
    for name, arm in arms.items():
        cells = []
        for score in (*SCORES, *more):
            mean = 100 * _over_seeds(arm, score)
            above = mean - 100 * _over_seeds(first, score)
            cells.append([mean[0], above[0], *np.nanpercentile(above[1:], [2.5, 97.5])])
        each = " ".join(f"{100 * ap:.1f}" for ap in arm.scores["ap"][:, 0])
        others = [cell for row in cells[1:] for cell in row]
        table.add(name, arm.steps, cells[0][0], each, *cells[0][1:], *others)


def _over_seeds(arm: Judged, score: str) -> NDArray[np.float64]:
    """[1 + R] the means over the seeds that count in each resampling."""
    scores = arm.scores[score]
    generator = np.random.default_rng([*arm.training.encode()] or 0)
    drawn = generator.integers(len(scores), size=(1 + RESAMPLINGS, len(scores)))
    drawn[0] = np.arange(len(scores))
    means: NDArray[np.float64] = np.take_along_axis(scores.T, drawn, 1).mean(1)
    return means


def seeds_of(folder: Path, training: str, seeds: Sequence[int]) -> dict[Path, str]:
    """What `judge` takes: the trained models, or the bundled one if nothing was trained."""
    places = {seed: folder / f"{training or 'untrained'}-{seed}" for seed in (seeds if training else (0,))}
    return {place / "judged": str(place / "model") if training else "nano" for place in places.values()}
