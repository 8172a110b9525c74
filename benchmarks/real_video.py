"""How well a model follows the one labelled object of each real video: mask J, and class AP beside it.

J is the IoU of true and predicted mask, the mean over a video's frames that show it, and then over videos.
"First" is that of the prediction with the highest score, "best" that of the prediction which fits best: the
difference is what choosing cost. DAVIS labels one object a video, so AP counts whatever else is rightly found
as wrong, and nothing is said about identities.

    python benchmarks/real_video.py --model runs/nano-davis/model --data data/davis/instances_val.json
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ookd.api import load
from ookd.data import rle
from ookd.data.formats import load as load_dataset
from ookd.errors import UserError
from ookd.evaluation.run import evaluate
from ookd.structures import TrackResult, Video
from ookd.tracking.predict import predict

Masks = NDArray[np.bool_]  # [T, H, W]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--data", required=True, help="videos with a single annotated track each")
    given = parser.parse_args()
    dataset, tracker = load_dataset(given.data), load(given.model)
    for video in dataset.videos:
        if len(video.tracks) != 1:
            raise UserError(f"{given.data}: video {video.id} has {len(video.tracks)} tracks; J needs one")
    results = predict(tracker.model, dataset, tracker.config, tracker.names)
    report = evaluate(dataset, results)
    print("| video | class | J, first | J, best | predictions |\n|---|---|---|---|---|")
    names = {category.id: category.name for category in dataset.categories}
    rows = []
    for video in dataset.videos:
        found = [one for one in results if one.video_id == video.id]
        rows.append(overlaps(video, found))
        name, label = video.extra.get("name", video.id), names[video.tracks[0].category_id]
        print(f"| {name} | {label} | {rows[-1][0]:.1f} | {rows[-1][1]:.1f} | {len(found)} |")
    first, best = np.mean(rows, 0)
    print(f"| mean of {len(rows)} | | {first:.1f} | {best:.1f} | {len(results)} |")
    print(f"\nAP {100 * report.ap:.1f}, AP50 {100 * report.summary['AP50']:.1f}")


def overlaps(video: Video, found: Sequence[TrackResult]) -> tuple[float, float]:
    """J of the prediction with the highest score and of the best one, in points; 0 without predictions."""
    truth = _masks(video, video.tracks[0].segmentations)
    ranked = sorted(found, key=lambda one: -one.score)
    scores = [jaccard(truth, _masks(video, one.segmentations)) for one in ranked]
    return (100 * scores[0], 100 * max(scores)) if scores else (0.0, 0.0)


def jaccard(truth: Masks, mask: Masks) -> float:
    """Mean IoU over the frames that show the object."""
    shown = truth.any((1, 2))
    truth, mask = truth[shown], mask[shown]
    return float(((truth & mask).sum((1, 2)) / (truth | mask).sum((1, 2))).mean())


def _masks(video: Video, segmentations: Sequence[object]) -> Masks:
    masks = np.zeros((len(segmentations), video.height, video.width), bool)
    for t, one in enumerate(segmentations):
        if one is not None:
            masks[t] = rle.decode(rle.from_any(one, video.height, video.width))
    return masks


if __name__ == "__main__":
    main()
