"""Compares one video: everything the scores need to know about it, without the masks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ookd.evaluation import hota, strata
from ookd.evaluation.ap import Matches, match
from ookd.evaluation.causes import VideoErrors, find_errors
from ookd.evaluation.predictions import Prediction, Predictions, video_label
from ookd.evaluation.returns import ReturnCounts
from ookd.evaluation.truth import GroundTruth
from ookd.evaluation.tubes import MaskTubes, Overlap, measure_tubes, overlap, ratio
from ookd.structures import Track, Video

FRAME_IOU = 0.5  # from this overlap on, a mask is on the object


@dataclass(frozen=True, slots=True)
class ScoringRules:
    """How to read the files and score them."""

    official_quirks: bool = False  # repeat the official program's defects
    class_agnostic: bool = False  # treat all classes as one
    min_score: float = hota.MIN_SCORE  # for HOTA, IDF1, MOTA and returns


@dataclass(slots=True)
class MeasuredVideo:
    """A video's D predictions compared with its G true tracks."""

    video: int
    place: NDArray[np.int64]  # [D] index in the whole result list
    score: NDArray[np.float64]  # [D]
    label: NDArray[np.int64]  # [D] index into the classes sorted by id
    truth_id: NDArray[np.int64]  # [G]
    truth_label: NDArray[np.int64]  # [G]
    truth_frames: NDArray[np.int64]  # [G] number of frames in which the track is seen
    crowd: NDArray[np.bool_]  # [G]
    truth_outside: NDArray[np.bool_]  # [S, G] not in the stratum
    iou: NDArray[np.float64]  # [D, G] of whole tracks
    iou_when_on: NDArray[np.float64]  # [D, G] over the frames where the prediction is on the object
    matches: Matches
    counts: dict[int, hota.TrackingCounts]  # class -> tracking counts
    errors: VideoErrors = field(default_factory=VideoErrors.empty)
    faults: list[str] = field(default_factory=list)  # entries left out, and why
    truth_faults: list[str] = field(default_factory=list)

    def return_counts(self) -> ReturnCounts:
        """Of all classes together."""
        return sum((counts.returns for counts in self.counts.values()), ReturnCounts())


def measure(video: Video, truth: GroundTruth, predictions: Predictions, rules: ScoringRules) -> MeasuredVideo:
    """Read, check and compare one video."""
    classes = {category: k for k, category in enumerate(sorted(c.id for c in truth.categories))}
    tracks, truth_faults = truth.tracks(video)
    entries, faults = predictions.read(video, None if rules.official_quirks else set(classes))
    entries = [entry for entry in entries if entry.result.category_id in classes]

    if rules.class_agnostic:  # the official program then sorts by class, which decides between ties
        tracks.sort(key=lambda track: track.category_id)
        entries.sort(key=lambda entry: entry.result.category_id)

    shape = (video.length, video.height, video.width, rules.official_quirks)
    true_tubes, wrong = measure_tubes([track.segmentations for track in tracks], *shape)
    truth_faults += [
        f"{truth.split_of[video.id].name}: track {tracks[g].id} of {video_label(video)}: {what}"
        for g, what in wrong.items()
    ]
    tracks = [track for g, track in enumerate(tracks) if g not in wrong]
    tubes, wrong = measure_tubes([entry.result.segmentations for entry in entries], *shape)
    faults += [
        f"{predictions.name(entries[d].place)} ({video_label(video)}): {what}" for d, what in wrong.items()
    ]
    entries = [entry for d, entry in enumerate(entries) if d not in wrong]
    measured = _scored(video.id, classes, tracks, true_tubes, entries, tubes, rules)
    measured.errors = find_errors(measured)
    measured.faults, measured.truth_faults = faults, truth_faults
    return measured


def _scored(
    video: int,
    classes: dict[int, int],
    tracks: list[Track],
    true_tubes: MaskTubes,
    entries: list[Prediction],
    tubes: MaskTubes,
    rules: ScoringRules,
) -> MeasuredVideo:
    compared = overlap(tubes, true_tubes)
    score = np.array([entry.result.score for entry in entries], np.float64)
    label = np.array([classes[entry.result.category_id] for entry in entries], np.int64)
    truth_label = np.array([classes[track.category_id] for track in tracks], np.int64)
    if rules.class_agnostic:
        label[:], truth_label[:] = 0, 0
    truth_id = np.array([track.id for track in tracks], np.int64)
    crowd = np.array([track.iscrowd for track in tracks], np.bool_)
    truth_traits, result_traits = _truth_traits(tracks, true_tubes), _result_traits(tubes)
    truth_outside = strata.outside(truth_traits, truth=True)
    frame_iou = compared.frame_iou()
    matches = match(
        score,
        label,
        truth_label,
        compared.track_iou,
        crowd,
        truth_outside,
        strata.outside(result_traits, truth=False),
        truth_id == 0 if rules.official_quirks else None,
    )
    return MeasuredVideo(
        video,
        np.array([entry.place for entry in entries], np.int64),
        score,
        label,
        truth_id,
        truth_label,
        truth_traits.frames,
        crowd,
        truth_outside,
        compared.track_iou,
        _iou_when_on(compared, frame_iou),
        matches,
        _count_tracking(compared, frame_iou, label, truth_label, score >= rules.min_score, ~crowd),
    )


def _truth_traits(tracks: list[Track], tubes: MaskTubes) -> strata.TrackTraits:
    """Areas are those of the annotation, as in the official program."""
    measured = _mean_area(tubes)
    area = [
        _mean_annotated(track.areas) if track.areas else own
        for track, own in zip(tracks, measured, strict=True)
    ]
    occlusion = [strata.occlusion_of(track.extra) for track in tracks]
    return strata.TrackTraits(np.array(area, float), (tubes.area > 0).sum(1), np.array(occlusion, float))


def _result_traits(tubes: MaskTubes) -> strata.TrackTraits:
    return strata.TrackTraits(_mean_area(tubes), (tubes.area > 0).sum(1), np.full(len(tubes), np.nan))


def _mean_area(tubes: MaskTubes) -> NDArray[np.float64]:
    return ratio(tubes.area.sum(1), (tubes.area > 0).sum(1))


def _mean_annotated(areas: list[float | None]) -> float:
    listed = [area for area in areas if area]
    return float(np.mean(listed)) if listed else 0.0


def _iou_when_on(compared: Overlap, frame_iou: NDArray[np.float64]) -> NDArray[np.float64]:
    """[D, G] IoU over the frames in which the prediction is on the object: the quality of the masks alone."""
    on = frame_iou >= FRAME_IOU
    inside = (compared.shared * on).sum(2)
    both = ((compared.result_area[:, None] + compared.truth_area[None]) * on).sum(2)
    return ratio(inside, both - inside)


def _count_tracking(
    compared: Overlap,
    frame_iou: NDArray[np.float64],
    label: NDArray[np.int64],
    truth_label: NDArray[np.int64],
    confident: NDArray[np.bool_],  # [D]
    single: NDArray[np.bool_],  # [G] one object, not a crowd
) -> dict[int, hota.TrackingCounts]:
    result_there, truth_there = compared.result_area > 0, compared.truth_area > 0
    confident, single = confident & result_there.any(1), single & truth_there.any(1)
    counts = {}
    for k in sorted({*label[confident].tolist(), *truth_label[single].tolist()}):
        d, g = np.flatnonzero(confident & (label == k)), np.flatnonzero(single & (truth_label == k))
        counts[k] = hota.count_tracking(frame_iou[d][:, g], result_there[d], truth_there[g])
    return counts
