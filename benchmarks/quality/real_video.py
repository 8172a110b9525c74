"""How well a model follows the one labelled object of each real video: mask J and AP.

J is the IoU of true and predicted mask: the mean over a video's frames that show the object, and then over
videos. "First" is that of the prediction with the highest score, "best" that of the prediction that fits
best; the difference is the price of choosing. With one labelled object per video, as in DAVIS, AP counts
every other correctly found object as wrong. Identities are not measured.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco

from measuring import Table
from ookd.api import load
from ookd.data import rle
from ookd.data.formats import load as load_dataset
from ookd.errors import UserError
from ookd.evaluation.run import evaluate
from ookd.structures import TrackResult, Video
from ookd.tracking.predict import predict


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="nano")
    parser.add_argument("--data", required=True, help="videos with a single annotated track each")


def run(given: argparse.Namespace) -> None:
    dataset, tracker = load_dataset(given.data), load(given.model)
    for video in dataset.videos:
        if len(video.tracks) != 1:
            raise UserError(f"{given.data}: video {video.id} has {len(video.tracks)} tracks; J needs one")
    results = predict(tracker.model, dataset, tracker.config, tracker.names)
    report = evaluate(dataset, results)
    names = {category.id: category.name for category in dataset.categories}
    columns = {"video": "", "class": "", "J, first": ".1f", "J, best": ".1f", "predictions": ""}
    rows = []
    with Table(given, columns) as table:
        for video in dataset.videos:
            found = [one for one in results if one.video_id == video.id]
            rows.append(overlaps(video, found))
            name, label = video.extra.get("name", video.id), names[video.tracks[0].category_id]
            table.add(name, label, *rows[-1], len(found))
        table.add(f"mean of {len(rows)}", "", *np.mean(rows, 0).tolist(), len(results))
        table.note(f"AP {100 * report.ap:.1f}, AP50 {100 * report.summary['AP50']:.1f}")


def overlaps(video: Video, found: Sequence[TrackResult]) -> tuple[float, float]:
    """J of the prediction with the highest score and of the best one, in points; 0 without predictions."""
    ranked = sorted(found, key=lambda one: -one.score)
    scores = [100 * jaccard(video, one.segmentations) for one in ranked]
    return (scores[0], max(scores)) if scores else (0.0, 0.0)


def jaccard(video: Video, predicted: Sequence[object]) -> float:
    """Mean IoU over the frames that show the object."""
    size = video.height, video.width
    ious = []
    for truth, mask in zip(video.tracks[0].segmentations, predicted, strict=True):
        if truth is not None:
            pair = None if mask is None else (rle.from_any(mask, *size), rle.from_any(truth, *size))
            ious.append(0.0 if pair is None else coco.iou([pair[0]], [pair[1]], [False]).item())
    return statistics.mean(ious)
