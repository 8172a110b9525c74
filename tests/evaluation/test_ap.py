"""AP against the published procedure written out in plain loops, and against counting by hand."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest

import ookd
from evaluation.scenes import H, W, as_json, mask, random_world, results_json, truth, tube
from ookd import UserError
from ookd.data import rle
from ookd.structures import Dataset, TrackResult

THRESHOLDS = [0.5 + 0.05 * i for i in range(10)]
RANGES = [(0, 1e10), (0, 128**2), (128**2, 256**2), (256**2, 1e10)]


def slow_arrays(
    dataset: Dataset, results: list[TrackResult], by_class: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall, one video, class, range, threshold and prediction after the other."""
    categories = sorted(c.id for c in dataset.categories)
    groups = [[c] for c in categories] if by_class else [categories]
    precision = np.full((10, 101, len(groups), 4, 3), -1.0)
    recall = np.full((10, len(groups), 4, 3), -1.0)
    for k, group in enumerate(groups):
        ious: dict[tuple[int, int], float] = {}  # by object: comparing masks is what takes long
        for a, (low, high) in enumerate(RANGES):
            found: list[tuple[float, int, list[str]]] = []
            truths = 0
            for video in sorted(dataset.videos, key=lambda v: v.id):
                tracks = [t for c in group for t in video.tracks if t.category_id == c]
                mine = [r for c in group for r in results if (r.video_id, r.category_id) == (video.id, c)]
                mine = sorted(mine, key=lambda r: -r.score)[:100]
                ignored = [t.iscrowd or not low <= mean([x for x in t.areas if x]) <= high for t in tracks]
                order = sorted(range(len(tracks)), key=lambda g: ignored[g])
                truths += ignored.count(False)
                outcomes: list[list[str]] = [[] for _ in mine]
                for threshold in THRESHOLDS:
                    used: set[int] = set()
                    for d, result in enumerate(mine):
                        best, held = min(threshold, 1 - 1e-10), None
                        for g in order:
                            if g in used and not tracks[g].iscrowd:
                                continue
                            if held is not None and not ignored[held] and ignored[g]:
                                break
                            pair = id(result), id(tracks[g])
                            if pair not in ious:
                                ious[pair] = track_iou(result.segmentations, tracks[g].segmentations)
                            iou = ious[pair]
                            if iou >= best:
                                best, held = iou, g
                        area = mean([rle.area(m) for m in result.segmentations if m and rle.area(m)])
                        if held is not None:
                            used.add(held)
                            outcomes[d].append("ignored" if ignored[held] else "right")
                        else:
                            outcomes[d].append("wrong" if low <= area <= high else "ignored")
                found += [(r.score, d, outcomes[d]) for d, r in enumerate(mine)]
            if truths:
                for m, limit in enumerate((1, 10, 100)):
                    rows = sorted((row for row in found if row[1] < limit), key=lambda row: -row[0])
                    for t in range(10):
                        precision[t, :, k, a, m], recall[t, k, a, m] = curve([r[2][t] for r in rows], truths)
    return precision, recall


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0


def track_iou(a: list, b: list) -> float:
    inside = union = 0
    for x, y in zip(a, b, strict=False):
        if x and y and x["size"] != y["size"]:
            continue
        x = rle.decode(x) if x else np.zeros((1, 1), bool)
        y = rle.decode(y) if y else np.zeros((1, 1), bool)
        inside, union = inside + (x & y).sum(), union + (x | y).sum()
    return inside / union if union else 0


def curve(outcomes: list[str], truths: int) -> tuple[list[float], float]:
    right = wrong = 0
    points = []
    for outcome in outcomes:
        right, wrong = right + (outcome == "right"), wrong + (outcome == "wrong")
        points.append((right / truths, right / max(right + wrong, 1)))
    at = [max((p for r, p in points if r >= i / 100 - 1e-12), default=0.0) for i in range(101)]
    return at, points[-1][0] if points else 0.0


@pytest.mark.parametrize("seed", range(8))
def test_equals_the_procedure_in_plain_loops(seed: int) -> None:
    dataset, results = random_world(seed, crowd=seed % 2 == 1)
    by_class = seed % 4 < 2
    report = ookd.evaluate(dataset, results, class_agnostic=not by_class)
    precision, recall = slow_arrays(dataset, results, by_class)
    np.testing.assert_allclose(report.curves.precision, precision, atol=1e-12)
    np.testing.assert_allclose(report.curves.recall, recall, atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_quirks_cut_unequal_lists_and_skip_frames_of_unequal_size(seed: int) -> None:
    dataset, results = random_world(seed + 100)
    rng = np.random.default_rng(seed)
    for i, result in enumerate(results):
        masks = list(result.segmentations)
        if rng.random() < 0.3:
            masks = masks[: rng.integers(1, len(masks))]
        if rng.random() < 0.3:
            masks.append(mask((0, 0, 9, 9)))
        if rng.random() < 0.5:
            masks[rng.integers(len(masks))] = mask((5, 5, 30, 20), H + 2, W + 4)
        results[i] = replace(result, segmentations=masks)
    report = ookd.evaluate(dataset, results, official_quirks=True)
    precision, recall = slow_arrays(dataset, results)
    np.testing.assert_allclose(report.curves.precision, precision, atol=1e-12)
    np.testing.assert_allclose(report.curves.recall, recall, atol=1e-12)
    with pytest.raises(UserError, match="do not fit"):
        ookd.evaluate(dataset, results)


def test_only_the_first_hundred_of_a_video_count() -> None:
    box = (3, 3, 20, 20)
    dataset = truth([(1, 1, tube(box, box))], frames=2)
    noise = [TrackResult(1, 1, 0.9, tube((30, 20, 40, 30), None)) for _ in range(100)]
    last = TrackResult(1, 1, 0.5, tube(box, box))
    assert ookd.evaluate(dataset, [*noise, last]).ap == 0
    assert ookd.evaluate(dataset, [*noise[:99], last]).ap == pytest.approx(1 / 100)


def test_of_equally_good_tracks_the_later_is_taken() -> None:
    """Two equal true tracks, and a third like neither: matching the first or the last is told by its id."""
    box = (3, 3, 20, 20)
    dataset = truth([(1, 1, tube(box)), (1, 1, tube(box))], frames=1)
    report = ookd.evaluate(dataset, [TrackResult(1, 1, 0.9, tube(box))])
    assert report.measured[0].matches.taken[:, 0].tolist() == [1] * 10


def test_an_empty_result_list_scores_nothing() -> None:
    dataset, _ = random_world(1)
    report = ookd.evaluate(dataset, [])
    assert report.ap == 0
    assert report.summary["AR100"] == 0
    with pytest.raises(UserError, match="empty"):
        ookd.evaluate(dataset, [], official_quirks=True)


def test_a_true_track_with_id_zero_counts_unless_the_defect_is_asked_for() -> None:
    box = (3, 3, 20, 20)
    dataset = truth([(1, 1, tube(box, box))], frames=2)
    dataset.videos[0].tracks[0].id = 0
    results = [TrackResult(1, 1, 0.9, tube(box, box))]
    assert ookd.evaluate(dataset, results).ap == pytest.approx(1)
    assert ookd.evaluate(dataset, results, official_quirks=True).ap == 0


def test_scoring_leaves_the_data_set_as_it_was() -> None:
    dataset, results = random_world(7)
    before = copy.deepcopy((dataset, results))
    ookd.evaluate(dataset, results, class_agnostic=True)
    assert (dataset, results) == before


def test_files_memory_and_processes_give_one_answer(tmp_path) -> None:
    import orjson

    dataset, results = random_world(5, videos=9)
    (tmp_path / "gt.json").write_bytes(orjson.dumps(as_json(dataset)))
    (tmp_path / "pred.json").write_bytes(orjson.dumps(results_json(results)))
    memory = ookd.evaluate(dataset, results)
    for processes in (1, 2):
        report = ookd.evaluate(tmp_path / "gt.json", tmp_path / "pred.json", processes=processes)
        assert report.as_dict() == memory.as_dict()
        assert np.array_equal(report.curves.precision, memory.curves.precision)


def test_splits_are_scored_apart_and_together(tmp_path) -> None:
    import orjson

    dataset, results = random_world(6, videos=6)
    halves = [replace(dataset, videos=dataset.videos[:3]), replace(dataset, videos=dataset.videos[3:])]
    for name, half in zip(("short", "long"), halves, strict=True):
        (tmp_path / f"{name}.json").write_bytes(orjson.dumps(as_json(half)))
    report = ookd.evaluate([tmp_path / "short.json", tmp_path / "long.json"], results)
    assert report.summary == ookd.evaluate(dataset, results).summary
    for name, half in zip(("short", "long"), halves, strict=True):
        ids = {video.id for video in half.videos}
        alone = ookd.evaluate(half, [result for result in results if result.video_id in ids])
        assert report.splits[name] == alone.summary
    with pytest.raises(UserError, match="is in both"):
        ookd.evaluate([tmp_path / "short.json", tmp_path / "short.json"], results)


def test_equal_scores_are_ranked_by_video_and_then_by_place_in_the_list() -> None:
    dataset, results = random_world(3)
    coarse = [replace(result, score=round(result.score, 1)) for result in results]
    assert len({result.score for result in coarse}) < len(coarse) / 2  # most are equal
    by_video = sorted(coarse, key=lambda result: -result.video_id)
    as_listed = ookd.evaluate(dataset, coarse).summary
    assert ookd.evaluate(dataset, by_video).summary == as_listed
    ranked = sorted(coarse, key=lambda result: (-result.score, result.video_id))  # what it amounts to
    clear = [replace(result, score=1 - place / 1e6) for place, result in enumerate(ranked)]
    assert ookd.evaluate(dataset, clear).summary == as_listed
