"""HOTA, IDF1, MOTA and switches equal to the reference package on random scenes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from trackeval.metrics import CLEAR, HOTA, Identity

import ookd
from evaluation.scenes import random_world, truth, tube
from ookd.data import rle
from ookd.evaluation import hota
from ookd.structures import TrackResult


def sequence(tracks: list[list], results: list[list], frames: int) -> dict[str, Any]:
    """One video and class as the reference package wants it: dense ids of what is seen, IoU in each frame."""
    there = [[m is not None and rle.area(m) > 0 for m in masks] for masks in (*tracks, *results)]
    rows = {i: n for n, i in enumerate(i for i in range(len(tracks)) if any(there[i]))}
    columns = {j: n for n, j in enumerate(j for j in range(len(results)) if any(there[len(tracks) + j]))}
    data: dict[str, Any] = {"gt_ids": [], "tracker_ids": [], "similarity_scores": [], "num_timesteps": frames}
    for t in range(frames):
        g = [i for i in rows if there[i][t]]
        d = [j for j in columns if there[len(tracks) + j][t]]
        iou = [[mask_iou(tracks[i][t], results[j][t]) for j in d] for i in g]
        data["gt_ids"].append(np.array([rows[i] for i in g], int))
        data["tracker_ids"].append(np.array([columns[j] for j in d], int))
        data["similarity_scores"].append(np.array(iou).reshape(len(g), len(d)))
    data["num_gt_ids"], data["num_tracker_ids"] = len(rows), len(columns)
    data["num_gt_dets"] = sum(map(len, data["gt_ids"]))
    data["num_tracker_dets"] = sum(map(len, data["tracker_ids"]))
    return data


def mask_iou(a: Any, b: Any) -> float:
    a, b = rle.decode(a), rle.decode(b)
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("few", [0, 400], ids=["scipy", "tried"])
@pytest.mark.parametrize("seed", range(24))
def test_equals_the_reference_package(seed: int, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hota, "_FEW", few)  # assignments are tried up to this number
    frames = 6 + seed % 5
    dataset, results = random_world(seed, videos=3, frames=frames, categories=2)
    report = ookd.evaluate(dataset, results, min_score=0.35)
    expected: dict[int, dict[str, Any]] = {}
    metrics = [HOTA(), Identity({"PRINT_CONFIG": False}), CLEAR({"PRINT_CONFIG": False})]
    for k, category in enumerate(dataset.categories):
        data = {}
        for video in dataset.videos:
            tracks = [t.segmentations for t in video.tracks if t.category_id == category.id]
            mine = [
                r.segmentations
                for r in results
                if (r.video_id, r.category_id) == (video.id, category.id) and r.score >= 0.35
            ]
            data[video.id] = sequence(tracks, mine, frames)
        expected[k] = {
            type(m).__name__: m.combine_sequences({v: m.eval_sequence(d) for v, d in data.items()})
            for m in metrics
        }
        compare(report.per_class[category.name].tracking, expected[k])
    together = {
        type(m).__name__: m.combine_classes_det_averaged(
            {k: e[type(m).__name__] for k, e in expected.items()}
        )
        for m in metrics
    }
    compare(report.tracking, together)


def compare(ours: Any, reference: dict[str, Any]) -> None:
    for name in ("HOTA", "DetA", "AssA", "LocA"):
        assert getattr(ours, name.lower()) == pytest.approx(np.mean(reference["HOTA"][name]), abs=1e-9), name
    assert ours.idf1 == pytest.approx(reference["Identity"]["IDF1"], abs=1e-9)
    assert ours.mota == pytest.approx(reference["CLEAR"]["MOTA"], abs=1e-9)
    assert ours.switches == reference["CLEAR"]["IDSW"]


def test_a_swap_of_two_objects_by_hand() -> None:
    """Perfect masks, identities exchanged half-way through four frames."""
    a, b = (2, 2, 20, 20), (30, 5, 50, 30)
    dataset = truth([(1, 1, tube(a, a, a, a)), (1, 1, tube(b, b, b, b))])
    results = [TrackResult(1, 1, 0.9, tube(a, a, b, b)), TrackResult(1, 1, 0.8, tube(b, b, a, a))]
    tracking = ookd.evaluate(dataset, results).tracking
    assert tracking.switches == 2
    assert tracking.deta == pytest.approx(1)
    assert tracking.assa == pytest.approx(2 / 6)  # of 4 + 4 masks of a pair 2 match: 2 / (4 + 4 - 2)
    assert tracking.hota == pytest.approx((2 / 6) ** 0.5)
    assert tracking.idf1 == pytest.approx(0.5)
    assert tracking.mota == pytest.approx((8 - 2) / 8)
