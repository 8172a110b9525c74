"""Pictures of the worst tracks: strips of frames with the truth outlined and the prediction filled."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ookd.data import rle
from ookd.data.formats.json_annotations import find_frames
from ookd.data.frames import read_frame
from ookd.drawing.html import Picture
from ookd.errors import UserError
from ookd.evaluation.report import Report
from ookd.evaluation.video import MeasuredVideo
from ookd.structures import Dataset, Rle, Video

MOST, FRAMES, HEIGHT = 8, 6, 120  # strips in a report, frames in a strip, pixels
TRUTH, RESULT = (40, 200, 90), (255, 120, 30)  # RGB


def worst_strips(report: Report, root: Path | None) -> list[Picture]:
    """The true tracks with the lowest IoU, each with its best prediction.

    `root` is the folder of the frames. Without it they are looked for, and strips without frames are left
    out.
    """
    strips = []
    for _, g, measured in sorted(_candidates(report.measured), key=lambda item: item[0])[:MOST]:
        video = report.truth.videos[measured.video]
        dataset = Dataset([], [], root or _root(report, video))
        try:
            strips.append(_strip(report, dataset, video, measured, g))
        except UserError:
            if root is not None:  # the caller expects frames there
                raise
    return strips


def _candidates(measured: list[MeasuredVideo]) -> list[tuple[float, int, MeasuredVideo]]:
    found = []
    for video in measured:
        same = np.where(video.label[:, None] == video.truth_label, video.iou, 0)  # [D, G]
        best = same.max(0) if len(same) else np.zeros(len(video.crowd))
        seen = np.flatnonzero(~video.crowd & (video.truth_frames > 0) & (best < 1))
        found += [(float(best[g]), g, video) for g in seen.tolist()]
    return found


def _root(report: Report, video: Video) -> Path | None:
    if report.truth.root is not None:
        return report.truth.root
    file = report.truth.split_of[video.id].file
    return None if file is None else find_frames(file.path, video.file_names[0])


def _strip(report: Report, dataset: Dataset, video: Video, measured: MeasuredVideo, g: int) -> Picture:
    names = list(report.per_class)
    tracks, _ = report.truth.tracks(video)
    track = next(track for track in tracks if track.id == measured.truth_id[g])
    masks = [_decoded(mask, video) for mask in track.segmentations]
    seen = [t for t, mask in enumerate(masks) if mask is not None and mask.any()]
    chosen = [seen[i] for i in np.linspace(0, len(seen) - 1, min(FRAMES, len(seen))).round().astype(int)]

    d = int(measured.iou[:, g].argmax()) if len(measured.iou) and measured.iou[:, g].any() else None
    segmentations: list[Rle | None] = [None] * video.length
    best = "no prediction touches it"
    if d is not None:
        entries, _ = report.entries.read(video, None)
        segmentations = {entry.place: entry.result for entry in entries}[int(measured.place[d])].segmentations
        name, score, iou = names[measured.label[d]], measured.score[d], measured.iou[d, g]
        best = f"best prediction: {name} {score:.2f}, IoU {iou:.2f}"
    pictures = [
        _picture(read_frame(dataset, video, t), masks[t], _decoded(segmentations[t], video)) for t in chosen
    ]
    caption = f"video {video.id}, track {track.id}, {names[measured.truth_label[g]]}; {best}"
    return Picture.of(caption, np.concatenate(pictures, 1))


def _decoded(mask: object, video: Video) -> NDArray[np.bool_] | None:
    return None if mask is None else rle.decode(rle.from_any(mask, video.height, video.width))


def _picture(
    image: NDArray[np.uint8], truth: NDArray[np.bool_] | None, result: NDArray[np.bool_] | None
) -> NDArray[np.uint8]:
    """[HEIGHT, w, 3] the prediction as a tint, the truth as an outline."""
    size = (max(1, round(image.shape[1] * HEIGHT / image.shape[0])), HEIGHT)
    picture = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    if result is not None:
        shape = cv2.resize(result.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        picture[shape] = (picture[shape] * 0.45 + np.array(RESULT) * 0.55).astype(np.uint8)
    if truth is not None:
        outlined = cv2.resize(truth.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        contours, _ = cv2.findContours(outlined, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, TRUTH, 2)
    return np.asarray(picture, np.uint8)
