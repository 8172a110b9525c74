"""Find every problem of a data set in one pass: files, annotations, masks against boxes, and frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ookd.data import rle
from ookd.data.check_frames import FrameCheck
from ookd.data.formats import AnnotationSource, Problem, Report, read
from ookd.data.formats.official import renumbered
from ookd.structures import Dataset, Track, Video

_FIT = 0.7  # least IoU of a box with the box of its own mask
_SIDE = 16  # pixels; tools differ by a pixel, which changes the overlap of smaller masks too much
_MARGIN = 1.0  # pixels that a box may extend over the frame's edge: tools differ in where a pixel begins

T = TypeVar("T")


class ShowProgress(Protocol):
    """Passes items through and shows how many of `total` are done."""

    def __call__(self, items: Iterable[T], total: int) -> Iterable[T]: ...


def _pass_through(items: Iterable[T], total: int) -> Iterable[T]:
    return items


@dataclass(slots=True)
class Checked:
    """What was checked, and the problems found."""

    problems: list[Problem] = field(default_factory=list)
    sets: int = 0
    videos: int = 0
    frames: int = 0
    tracks: int = 0
    masks: int = 0

    def as_dict(self) -> dict[str, Any]:
        problems = [
            {"file": str(problem.file), "where": problem.where, "what": problem.what}
            for problem in self.problems
        ]
        return asdict(replace(self, problems=[])) | {"problems": problems}


def check(
    sources: Iterable[AnnotationSource], pixels: bool = True, show_progress: ShowProgress = _pass_through
) -> Checked:
    """Check all sets. Without `pixels` only the headers of images are read, which is quick."""
    checked = Checked()
    for source in sources:
        checked.sets += 1
        dataset = read(source, checked.problems.append)
        if dataset is None:
            continue
        known = renumbered(dataset.categories)
        if known and source.format.server_numbers:
            what = (
                f"numbers the classes of {known} differently, so the benchmark's server would misread results"
            )
            checked.problems.append(Problem(source.path, "", what))
        total = sum(video.length for video in dataset.videos)
        for _ in show_progress(_check_videos(dataset, source.path, pixels, checked), total):
            checked.frames += 1
    return checked


def _check_videos(dataset: Dataset, file: Path, pixels: bool, checked: Checked) -> Iterator[None]:
    """Yields once a frame."""
    with FrameCheck(dataset, pixels) as frames:
        for video in dataset.videos:
            checked.videos += 1
            checked.tracks += len(video.tracks)
            for track in video.tracks:
                checked.masks += _check_track(file, video, track, checked.problems.append)
            for problem in frames.check_video(video):
                if problem is not None:
                    checked.problems.append(problem)
                yield
        checked.problems.extend(frames.finish(file))


def _check_track(file: Path, video: Video, track: Track, report: Report) -> int:
    """Returns the number of masks."""
    pairs = list(zip(track.segmentations, track.boxes_xywh, strict=True))
    masks = [mask for mask, box in pairs if mask is not None and box is not None]
    measured = iter(rle.measure_many(masks, video.height, video.width))
    for frame, (mask, box) in enumerate(pairs):
        if mask is None and box is None:
            continue
        where = f"video {video.id}, annotation {track.id}, frame {frame}"
        if mask is None or box is None:
            has, lacks = ("box", "mask") if mask is None else ("mask", "box")
            report(
                Problem(
                    file, where, f"has a {has} but no {lacks}; both are null where the object is not visible"
                )
            )
            continue
        for what in _mask_faults(next(measured), box, track.areas[frame], video, track.iscrowd):
            report(Problem(file, where, what))
    return len(masks)


def _mask_faults(
    measured: tuple[int, list[float]] | rle.RleError,
    box: list[float],
    area: float | None,
    video: Video,
    crowd: bool,
) -> Iterator[str]:
    """What is wrong with a mask, its box and its area, each alone and against each other."""
    if isinstance(measured, rle.RleError):
        yield f"segmentation: {measured}"
        return
    pixels, tight = measured
    if pixels == 0:
        yield "the mask is empty; write null where the object is not visible"
    if area is not None and not crowd and pixels >= _SIDE**2 and not pixels / 2 <= area <= pixels * 2:
        yield f"area {area:g} does not fit its mask of {pixels} pixels"
    x, y, width, height = box
    hint = ""
    if width > x and height > y and _overlap([x, y, width - x, height - y], tight) > _FIT:
        hint = "; it looks like two corners, but must be [x, y, width, height]"
    over = max(-x, -y, x + width - video.width, y + height - video.height)
    if width <= 0 or height <= 0:
        yield f"box {box} has no area; it must be [x, y, width, height]"
    elif over > _MARGIN:
        yield f"box {box} extends {over:g} pixels over the frame of {video.width} x {video.height}{hint}"
    elif not crowd and min(tight[2:]) >= _SIDE and _overlap(box, tight) < _FIT:
        yield f"box {box} does not fit its mask, whose box is {tight}{hint}"


def _overlap(a: list[float], b: list[float]) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    either = a[2] * a[3] + b[2] * b[3] - both
    return both / either if either > 0 else 0.0
