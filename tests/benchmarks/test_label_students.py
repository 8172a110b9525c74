"""Students of labels: what each arm learns from, and HOTA over resampled videos."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pytest

from docs.pages import ROOT

sys.path.append(str(ROOT / "benchmarks"))

from learning.label_students import ARMS, recipe_of
from ookd.evaluation.hota import TrackingCounts, tracking_scores
from quality.association import resampled_hota

GIVEN = argparse.Namespace(world="hard", steps=7, set=["data.batch=2"])


def test_arms_differ_in_their_labels_or_in_how_these_are_read() -> None:
    sources = {}
    for name in ARMS:
        recipe = recipe_of(GIVEN, name, Path("labels"), 3)
        assert (recipe.run.seed, recipe.run.steps, recipe.data.batch) == (3, 7, 2)
        assert recipe.tracker["short_side"] == 128
        assert recipe.data.val is None
        (source,) = recipe.data.train
        assert source.kind == "folder"
        sources[name] = (Path(source.path).name, source.sure, source.weigh)
    assert sources == {
        "online": ("online.json", 0.5, False),
        "linker": ("linker.json", 0.5, False),
        "linker-all-sure": ("linker.json", 0.0, False),
        "linker-weighed": ("linker.json", 0.5, True),
        "both-ways": ("both-ways.json", 0.5, False),
        "true": ("instances.json", 0.5, False),
    }


def test_hota_of_resampled_videos_is_that_of_their_summed_counts() -> None:
    rng = np.random.default_rng(0)
    counts = []
    for _ in range(4):
        right = np.sort(rng.integers(0, 40, 19))[::-1].astype(float)
        counts.append(TrackingCounts(np.stack([right, 0.8 * right, 0.6 * right]), 50, 60))
    counts.append(TrackingCounts(truths=9))
    weights = np.array([[1, 1, 1, 1, 1], [2, 0, 1, 0, 2]])
    for hota, row in zip(resampled_hota(counts, weights), weights, strict=True):
        drawn = sum((count for count, n in zip(counts, row, strict=True) for _ in range(n)), TrackingCounts())
        assert hota == pytest.approx(tracking_scores(drawn).hota)
