"""Statistics of a data set: classes, lengths, sizes, occlusion, imbalance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ookd.files import new_file
from ookd.structures import Dataset, Track, Video

# Pixels that divide small, medium and large objects in the benchmarks: square root of the mean mask area.
_SIDES = (128, 256)


@dataclass(frozen=True, slots=True)
class Spread:
    """Minimum, median, mean and maximum of some numbers; all zero if there are none."""

    least: float
    median: float
    mean: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        if not values:
            return cls(0, 0, 0, 0)
        return cls(float(min(values)), float(np.median(values)), float(np.mean(values)), float(max(values)))


@dataclass(frozen=True, slots=True)
class ClassCount:
    name: str
    tracks: int
    masks: int


@dataclass(frozen=True, slots=True)
class Stats:
    name: str
    videos: int
    frames: int
    tracks: int
    masks: int
    crowds: int  # crowd annotations, not counted as tracks
    classes: list[ClassCount]  # in label order
    video_length: Spread  # frames
    tracks_per_video: Spread
    track_length: Spread  # frames in which a track is visible
    side: Spread  # square root of a track's mean mask area, pixels
    sizes: dict[str, int]  # tracks by size
    returning: int  # tracks that disappear and come back
    overlap: float  # mean over frames with objects: area under two or more boxes / area under any
    occlusion: dict[str, int]  # masks by the levels in the annotations (OVIS)
    imbalance: float  # tracks of the most frequent class / of the rarest one
    effective_classes: float  # exp(entropy): this many equally frequent classes would be as diverse
    with_minor_paste: list[float] | None = None  # tracks by label in an epoch with its default settings

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def describe(dataset: Dataset, name: str = "", minor_paste: bool = False) -> Stats:
    tracks = [track for video in dataset.videos for track in video.tracks if not track.iscrowd]
    label_of = dataset.label_of()
    seen = {id(track): [mask is not None for mask in track.segmentations] for track in tracks}
    counts = Counter(label_of[track.category_id] for track in tracks)
    masks = Counter[int]()
    for track in tracks:
        masks[label_of[track.category_id]] += sum(seen[id(track)])
    sides = [side for track in tracks if (side := mean_side(track)) > 0]
    per_class = np.array([count for count in counts.values() if count], float)
    share = per_class / per_class.sum() if len(per_class) else per_class
    return Stats(
        name=name or dataset.name,
        videos=len(dataset.videos),
        frames=sum(video.length for video in dataset.videos),
        tracks=len(tracks),
        masks=sum(masks.values()),
        crowds=sum(track.iscrowd for video in dataset.videos for track in video.tracks),
        classes=[
            ClassCount(category.name, counts[label], masks[label])
            for label, category in enumerate(dataset.categories)
        ],
        video_length=Spread.of([video.length for video in dataset.videos]),
        tracks_per_video=Spread.of(
            [sum(not track.iscrowd for track in video.tracks) for video in dataset.videos]
        ),
        track_length=Spread.of([sum(visible) for visible in seen.values()]),
        side=Spread.of(sides),
        sizes=by_size(sides),
        returning=sum(_returns(visible) for visible in seen.values()),
        overlap=float(np.mean(overlaps)) if (overlaps := frame_overlaps(dataset)) else 0.0,
        occlusion=_levels(tracks),
        imbalance=float(per_class.max() / per_class.min()) if len(per_class) else 0.0,
        effective_classes=float(np.exp(-(share * np.log(share)).sum())) if len(share) else 0.0,
        with_minor_paste=_with_minor_paste(dataset) if minor_paste else None,
    )


def _with_minor_paste(dataset: Dataset) -> list[float]:
    """Tracks of each class, plus those pasted in an epoch, which has one clip of every annotated video."""
    from ookd.clips.minor_paste import MinorPaste, MinorPasteConfig
    from ookd.clips.sources import DatasetClips

    source = DatasetClips(dataset)
    pasted = MinorPaste(source, MinorPasteConfig()).expected_per_clip() * len(source)
    return [float(count) for count in source.class_counts() + pasted]


def mean_side(track: Track) -> float:
    """The square root of a track's mean mask area over the frames that show it; 0 if none does."""
    areas = [area for area in track.areas if area]
    return float(np.sqrt(np.mean(areas))) if areas else 0.0


def by_size(sides: Sequence[float]) -> dict[str, int]:
    small = sum(side < _SIDES[0] for side in sides)
    large = sum(side >= _SIDES[1] for side in sides)
    return {"small": small, "medium": len(sides) - small - large, "large": large}


def _returns(visible: list[bool]) -> bool:
    """Whether it is visible, then not, then again."""
    starts = sum(now and not before for before, now in zip([False, *visible], visible, strict=False))
    return starts > 1


def _levels(tracks: Sequence[Track]) -> dict[str, int]:
    """Masks by occlusion level. OVIS also writes levels where there is no mask; those do not count."""
    counts = Counter[str]()
    for track in tracks:
        levels = track.extra.get("occlusion")
        if isinstance(levels, list):
            counts.update(
                str(level)
                for level, mask in zip(levels, track.segmentations, strict=False)
                if mask is not None and level is not None
            )
    return dict(counts)


def frame_overlaps(dataset: Dataset) -> list[float]:
    """The bounding-box occlusion rate of each frame with objects."""
    return [
        overlap_rate(np.array(boxes))
        for video in dataset.videos
        for frame in range(video.length)
        if (boxes := _boxes(video, frame))
    ]


def _boxes(video: Video, frame: int) -> list[list[float]]:
    return [
        box for track in video.tracks if not track.iscrowd and (box := track.boxes_xywh[frame]) is not None
    ]


def overlap_rate(boxes: NDArray[np.float64]) -> float:
    """Area under two or more of the boxes [N, 4] (x y w h), divided by the area under any.

    The edges of the boxes cut the frame into cells, each covered by a whole number of boxes.
    """
    if len(boxes) < 2:
        return 0.0
    x1, y1 = boxes[:, 0], boxes[:, 1]
    x2, y2 = x1 + boxes[:, 2], y1 + boxes[:, 3]
    xs, ys = np.unique([x1, x2]), np.unique([y1, y2])
    wide = (xs[:-1] >= x1[:, None]) & (xs[1:] <= x2[:, None])  # [N, X]
    high = (ys[:-1] >= y1[:, None]) & (ys[1:] <= y2[:, None])  # [N, Y]
    covers = high.T.astype(np.int64) @ wide  # [Y, X] boxes over each cell
    cells = np.diff(ys)[:, None] * np.diff(xs)  # [Y, X]
    under_any = cells[covers >= 1].sum()
    return float(cells[covers >= 2].sum() / under_any) if under_any > 0 else 0.0


def plot(dataset: Dataset, stats: Stats, path: Path) -> None:
    """Four diagrams: tracks by class, track lengths, object sizes, overlap of boxes."""
    from matplotlib.figure import Figure

    tracks = [track for video in dataset.videos for track in video.tracks if not track.iscrowd]
    figure = Figure(figsize=(12, 8), layout="constrained")
    figure.suptitle(f"{stats.name}: {stats.videos} videos, {stats.frames} frames, {stats.tracks} tracks")
    classes, lengths, sides, overlaps = figure.subplots(2, 2).ravel()
    ranked = sorted(stats.classes, key=lambda item: -item.tracks)
    bars = classes.bar(range(len(ranked)), [item.tracks for item in ranked], color="#3b6ea5")
    classes.bar_label(bars, fontsize=7)
    classes.set_xticks(range(len(ranked)), [item.name for item in ranked], rotation=90, fontsize=7)
    scale = "symlog" if stats.imbalance > 20 else "linear"
    classes.set(title=f"tracks by class (1 : {stats.imbalance:.0f})", ylabel="tracks", yscale=scale)
    lengths.hist(
        [sum(mask is not None for mask in track.segmentations) for track in tracks], 30, color="#3b6ea5"
    )
    lengths.set(title="frames in which a track is visible", ylabel="tracks")
    sides.hist([mean_side(track) for track in tracks], 30, color="#3b6ea5")
    for side in _SIDES:
        sides.axvline(side, color="#888888", linestyle=":")
    sides.set(title="size: square root of mean mask area, pixels", ylabel="tracks")
    overlaps.hist(frame_overlaps(dataset), 30, (0, 1), color="#3b6ea5")
    overlaps.set(title=f"area under several boxes / under any (mean {stats.overlap:.2f})", ylabel="frames")
    with new_file(path) as part:
        figure.savefig(part, dpi=110, format="png")
