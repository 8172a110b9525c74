"""The quality of a model's labels, on synthetic videos with ground truth.

The model sees each frame once. Its objects are then followed by the online tracker and by the linker, which
knows the future, forwards and in both directions. Besides the scores of the tracks that become labels: how
often a labelled frame shows its track's own object, under the right class, in sure and in unsure frames.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

import ookd
from measuring import Table
from ookd.config.tracker import TrackerConfig
from ookd.data.confidence import SURE
from ookd.errors import UserError
from ookd.evaluation.tubes import MaskTubes, measure_tubes, overlap
from ookd.label.both_ways import joined
from ookd.label.labeller import LabelThresholds, plausible
from ookd.models import zoo
from ookd.models.families import family_of
from ookd.models.protocols import OnlineModel
from ookd.structures import Dataset, Track, TrackResult, Video
from ookd.tracking.delayed import make_tracker
from ookd.tracking.predict import detect_video
from ookd.tracking.recordings import recordings
from ookd.tracking.select import Detections
from ookd.worlds import PRESETS, World

SHOWS = 0.5  # mask IoU from which a label shows an object


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="nano", help="a frame model")
    parser.add_argument("--world", default="ovis-like", choices=sorted(PRESETS))
    parser.add_argument("--videos", type=int, default=40)
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)


def run(given: argparse.Namespace) -> None:
    cv2.setNumThreads(1)
    saved = zoo.load(given.model)
    constants = family_of(saved.model).tracker.changed({**saved.tracker, "every_class": False})
    if not isinstance(saved.model, OnlineModel) or not isinstance(constants, TrackerConfig):
        raise UserError(f"--model {given.model}: must see single frames")
    world = World(given.world, "val", given.seed, given.videos, frames=given.frames)
    truth, runs = world.dataset(), dict[str, list[TrackResult]]()
    for video in recordings(world):
        detections = list(detect_video(saved.model, video.images(), constants))
        for name, ahead in (("online", 0), ("linker", None)):
            forward = followed(detections, constants, ahead, video.id)
            back = [reversed_track(t) for t in followed(detections[::-1], constants, ahead, video.id)]
            runs.setdefault(name, []).extend(forward)
            runs.setdefault(f"{name}, both ways", []).extend(joined(forward, back))
    columns = {
        "labels": "",
        "tracks": "",
        **dict.fromkeys(["AP", "HOTA", "IDF1"], ".1f"),
        "switches": "",
        "sure frames": "",
        "right": ".1%",
        "unsure frames": "",
        "of these right": ".1%",
    }
    thresholds = LabelThresholds()
    with Table(given, columns) as table:
        for name, tracks in runs.items():
            pieces = plausible(tracks, saved.names, thresholds)
            labels = [t for t in pieces if not thresholds.doubt(t, saved.names[t.category_id - 1])]
            report = ookd.evaluate(truth, labels)
            scores = (report.ap, report.tracking.hota, report.tracking.idf1)
            cells = [part for right in right_frames(truth, labels) for part in (len(right), share(right))]
            table.add(name, len(labels), *(100 * s for s in scores), report.tracking.switches, *cells)


def followed(
    detections: Sequence[Detections], constants: TrackerConfig, ahead: int | None, video: int
) -> list[TrackResult]:
    tracker = make_tracker(constants, ahead=ahead, final=True)
    for _ in tracker.follow((one, None) for one in detections):
        pass  # the results are gathered
    classes = detections[0].probs.shape[1]
    return list(tracker.results.tracks(video, range(1, classes + 1)))


def reversed_track(track: TrackResult) -> TrackResult:
    scores = track.frame_scores or []
    return replace(track, segmentations=track.segmentations[::-1], frame_scores=scores[::-1])


def share(right: Sequence[bool]) -> float:
    return sum(right) / len(right) if right else float("nan")


def right_frames(truth: Dataset, labels: Sequence[TrackResult]) -> tuple[list[bool], list[bool]]:
    """Of each labelled frame whether it is right: those that are sure, and the others.

    Right is a frame that shows, under its class, the object that the track shows most often.
    """
    sure: list[bool] = []
    unsure: list[bool] = []
    for video in truth.videos:
        mine = [track for track in labels if track.video_id == video.id]
        if not mine:
            continue
        iou = overlap(tubes(video, mine), tubes(video, video.tracks)).frame_iou()  # [D, G, T]
        for track, alike in zip(mine, iou, strict=True):
            shown, on = alike.argmax(0), alike.max(0) >= SHOWS
            own = int(np.bincount(shown[on]).argmax()) if on.any() else -1
            named = own >= 0 and video.tracks[own].category_id == track.category_id
            for frame, score in enumerate(track.frame_scores or []):
                if score is not None:
                    right = bool(named and on[frame] and shown[frame] == own)
                    (sure if score >= SURE * track.score else unsure).append(right)
    return sure, unsure


def tubes(video: Video, tracks: Sequence[Track | TrackResult]) -> MaskTubes:
    size = video.length, video.height, video.width
    return measure_tubes([track.segmentations for track in tracks], *size)[0]
