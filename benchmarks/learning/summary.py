"""The scores of finished arms: means over seeds, and intervals of the difference to the student alone."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learning.judge import Outcomes, switch_rate
from measuring import markdown
from ookd.evaluation.ap import IGNORED, RIGHT
from ookd.evaluation.compare import RESAMPLINGS, Difference
from ookd.evaluation.errors import RankedPredictions, class_ap
from ookd.evaluation.strata import FREQUENCIES

BASELINE = "alone"


@dataclass(slots=True)
class Resampled:
    """One arm and seed on the test videos, and on R resamplings of them; the split itself comes first."""

    ap: NDArray[np.float64]  # [R + 1, K] of each class, in points; nan without truth
    switches: NDArray[np.float64]  # [R + 1]
    found: NDArray[np.float64]  # [R + 1] true masks that a prediction overlaps

    def measure(self, groups: Mapping[str, Sequence[int]]) -> dict[str, NDArray[np.float64]]:
        """AP over all classes and over each group, switches, and those in 1000 found masks [R + 1]."""
        ap = {"test_ap": np.nanmean(self.ap, 1)}
        ap |= {f"{name}_ap": _mean(self.ap[:, list(classes)]) for name, classes in groups.items()}
        return {**ap, "switches": self.switches, "switch_rate": switch_rate(self.switches, self.found)}


def drawings(videos: int, resamplings: int = RESAMPLINGS, seed: int = 0) -> NDArray[np.int64]:
    """[R + 1, V] how often each video is drawn; the first row is the split itself."""
    drawn = np.random.default_rng(seed).multinomial(videos, np.full(videos, 1 / videos), resamplings)
    return np.concatenate([np.ones((1, videos), np.int64), drawn])


def resampled(outcomes: Outcomes, resamplings: int = RESAMPLINGS, seed: int = 0) -> Resampled:
    """Scores on resampled videos; the drawings are the same for all arms."""
    weights = drawings(len(outcomes.truths), resamplings, seed)
    order = np.argsort(-outcomes.score, kind="stable")
    label, video = outcomes.label[order].astype(np.int64), outcomes.video[order]
    by_threshold = []
    for row in outcomes.outcome[:, order]:
        kept = row != IGNORED
        entries = RankedPredictions(label[kept], video[kept], row[kept] == RIGHT)
        by_threshold.append(class_ap(entries, outcomes.truths, weights))
    ap = 100 * np.mean(by_threshold, axis=0)
    return Resampled(ap, weights @ outcomes.switches, weights @ outcomes.found)


def difference(
    arm: Sequence[Resampled], baseline: Sequence[Resampled], groups: Mapping[str, Sequence[int]]
) -> dict[str, Difference]:
    """Mean over the seeds of the arm minus mean over the same seeds of the baseline."""
    means = [
        {name: np.mean([row[name] for row in rows], axis=0) for name in rows[0]}
        for rows in ([one.measure(groups) for one in side] for side in (arm, baseline))
    ]
    found = {}
    for name, a in means[0].items():
        b = means[1][name]
        if np.isnan(a[0]):  # no class of this group is in the test videos
            continue
        low, high = np.nanpercentile((a - b)[1:], [2.5, 97.5])
        found[name] = Difference(float(a[0]), float(b[0]), float(a[0] - b[0]), float(low), float(high))
    return found


def summarise(results: Mapping[str, Mapping[int, Mapping[str, Any]]], out: Path) -> dict[str, Any]:
    """Of each arm, mean and spread over seeds of every number, and the difference to the baseline."""
    drawn: dict[tuple[str, int], Resampled] = {}

    def of(arm: str, seed: int) -> Resampled:
        if (arm, seed) not in drawn:
            drawn[arm, seed] = resampled(Outcomes.load(place(out, arm, seed) / "videos.npz"))
        return drawn[arm, seed]

    summary: dict[str, Any] = {}
    for arm, seeds in results.items():
        rows = list(seeds.values())
        names = [name for name, value in rows[0].items() if isinstance(value, int | float)]
        summary[arm] = {
            "seeds": dict(seeds),
            "mean": {name: statistics.mean(row[name] for row in rows) for name in names},
            "spread": {name: _spread([row[name] for row in rows]) for name in names},
            "errors": {
                cause: statistics.mean(row["errors"][cause] for row in rows) for cause in rows[0]["errors"]
            },
        }
        against = [seed for seed in results.get(BASELINE, {}) if seed in seeds or rows[0]["offline"]]
        if arm != BASELINE and against:
            mine = [of(arm, seed) for seed in (seeds if rows[0]["offline"] else against)]
            gained = difference(mine, [of(BASELINE, seed) for seed in against], _groups(rows[0]))
            summary[arm]["against"] = {
                "arm": BASELINE,
                "seeds": against,
                **{
                    name: {"difference": one.difference, "low": one.low, "high": one.high}
                    for name, one in gained.items()
                },
            }
    return summary


def place(out: Path, arm: str, seed: int) -> Path:
    return out / "arms" / arm / f"seed-{seed}"


def table(summary: Mapping[str, Any]) -> str:
    """The tables of the documentation: scores, then what errors cost."""
    headings = [
        "arm",
        "steps",
        "seeds",
        "track AP, test",
        "above alone [95 %]",
        "family's constants",
        "AP, val",
    ]
    headings += ["minor / middle / major", "switches", "in 1000 found", "HOTA", "AssA"]
    rows = []
    for arm, row in summary.items():
        mean, spread = row["mean"], row["spread"]
        shown = {name: f"{value:.1f}" for name, value in mean.items()}
        rows.append(
            [
                arm,
                f"{mean['steps']:.0f}",
                str(len(row["seeds"])),
                shown["test_ap"] + (f" ± {spread['test_ap']:.1f}" if len(row["seeds"]) > 1 else ""),
                _above(row, "test_ap", 1),
                shown["test_ap_default"],
                shown.get("val_ap", "-"),
                " / ".join(shown.get(f"{group}_ap", "-") for group in FREQUENCIES),
                f"{mean['switches']:.0f} {_above(row, 'switches', 0)}",
                f"{shown['switch_rate']} {_above(row, 'switch_rate', 1)}",
                shown["hota"],
                shown["assa"],
            ]
        )
    causes = list(next(iter(summary.values()))["errors"]) if summary else []
    lost = [[arm, *(f"{row['errors'][cause]:.1f}" for cause in causes)] for arm, row in summary.items()]
    return f"{markdown(headings, rows)}\n\n{markdown(['AP lost to', *causes], lost)}"


def _above(row: Mapping[str, Any], name: str, digits: int) -> str:
    if "against" not in row:
        return ""
    one = row["against"][name]
    low, high = one["low"], one["high"]
    return f"{one['difference']:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def _groups(result: Mapping[str, Any]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for k, row in enumerate(result["classes"].values()):
        groups.setdefault(row["frequency"], []).append(k)
    return groups


def _spread(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """[R] over the classes that have truth; nan where none has."""
    known = ~np.isnan(values)
    total = np.where(known, values, 0).sum(1)
    return np.where(known.any(1), total / np.maximum(known.sum(1), 1), np.nan)
