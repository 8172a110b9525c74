"""Every problem of a data set in one pass: files, annotations, masks against boxes, and the frames."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ookd.data import rle
from ookd.data.formats import Problem, Report, Source, read
from ookd.data.formats.official import renumbered
from ookd.data.frames import decode_image, frame_path, image_size, read_bytes, through_video
from ookd.errors import UserError
from ookd.structures import Dataset, Track, Video

T = TypeVar("T")


class Watch(Protocol):
    """Hands items on and shows how far it is."""

    def __call__(self, items: Iterable[T], total: int) -> Iterable[T]: ...


def _unwatched(items: Iterable[T], total: int) -> Iterable[T]:
    return items


_FIT = 0.7  # a box overlaps the box of its own mask by at least this
_SIDE = 16  # pixels; of smaller masks a pixel more or less, as tools differ, changes the overlap too much
_MARGIN = 1.0  # pixels a box may reach over the frame's edge: tools differ in where a pixel begins


@dataclass(slots=True)
class Checked:
    """What was looked at and what is wrong with it."""

    problems: list[Problem] = field(default_factory=list)
    sets: int = 0
    videos: int = 0
    frames: int = 0
    tracks: int = 0
    masks: int = 0


def check(sources: Iterable[Source], pixels: bool = True, watch: Watch = _unwatched) -> Checked:
    """Check sets one after the other. Without `pixels` only the headers of images are read: quick."""
    checked = Checked()
    for source in sources:
        checked.sets += 1
        dataset = read(source, checked.problems.append)
        if dataset is None:
            continue
        checked.videos += len(dataset.videos)
        checked.frames += sum(video.length for video in dataset.videos)
        checked.tracks += sum(len(video.tracks) for video in dataset.videos)
        if known := renumbered(dataset.categories):
            what = f"has the classes of {known} under other numbers, so its server would misread results"
            checked.problems.append(Problem(source.path, "", what))
        for video in dataset.videos:
            for track in video.tracks:
                checked.masks += _check_track(source.path, video, track, checked.problems.append)
        _check_frames(dataset, source.path, pixels, watch, checked.problems.append)
    return checked


def _check_track(file: Path, video: Video, track: Track, report: Report) -> int:
    """Returns how many masks there are."""
    masks = 0
    for frame, segmentation in enumerate(track.segmentations):
        box, area = track.boxes_xywh[frame], track.areas[frame]
        if segmentation is None and box is None:
            continue
        where = f"video {video.id}, annotation {track.id}, frame {frame}"
        if segmentation is None or box is None:
            has, lacks = ("box", "mask") if segmentation is None else ("mask", "box")
            report(Problem(file, where, f"has a {has} but no {lacks}; both are null where nothing is seen"))
            continue
        masks += 1
        for what in _mask_faults(segmentation, box, area, video, track.iscrowd):
            report(Problem(file, where, what))
    return masks


def _mask_faults(
    segmentation: Any, box: list[float], area: float | None, video: Video, crowd: bool
) -> Iterator[str]:
    """What is wrong with a mask, its box and its area, each alone and against each other."""
    try:
        mask = rle.from_any(segmentation, video.height, video.width)
    except rle.RleError as error:
        yield f"segmentation: {error}"
        return
    pixels, tight = rle.area(mask), rle.box_xywh(mask)
    if pixels == 0:
        yield "the mask is empty; write null where nothing is seen"
    if area is not None and not crowd and pixels >= _SIDE**2 and not pixels / 2 <= area <= pixels * 2:
        yield f"area {area:g} does not fit its mask of {pixels} pixels"
    x, y, width, height = box
    hint = ""
    if width > x and height > y and _overlap([x, y, width - x, height - y], tight) > _FIT:
        hint = "; it looks like two corners, right is [x, y, width, height]"
    over = max(-x, -y, x + width - video.width, y + height - video.height)
    if width <= 0 or height <= 0:
        yield f"box {box} has no area; right is [x, y, width, height]"
    elif over > _MARGIN:
        yield f"box {box} reaches {over:g} pixels over the frame of {video.width} x {video.height}{hint}"
    elif not crowd and min(tight[2:]) >= _SIDE and _overlap(box, tight) < _FIT:
        yield f"box {box} does not fit its mask, which lies in {tight}{hint}"


def _overlap(a: list[float], b: list[float]) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    either = a[2] * a[3] + b[2] * b[3] - both
    return both / either if either > 0 else 0.0


def _check_frames(dataset: Dataset, file: Path, pixels: bool, watch: Watch, report: Report) -> None:
    images: list[tuple[Path, Video, int]] = []
    in_videos: dict[Path, list[tuple[int, Video, int]]] = defaultdict(list)
    for video in dataset.videos:
        for index in range(video.length):
            path = frame_path(dataset, video, index)
            try:
                through = through_video(path)
            except UserError as error:
                report(Problem(file, _place(video, index), str(error)))
                continue
            if through is None:
                images.append((path, video, index))
            else:
                in_videos[through[0]].append((through[1], video, index))
    _check_images(images, dataset, file, pixels, watch, report)
    for path, wanted in in_videos.items():
        for video, index, what in _video_faults(path, wanted):
            report(Problem(path, _place(video, index), what))


def _check_images(
    images: list[tuple[Path, Video, int]],
    dataset: Dataset,
    file: Path,
    pixels: bool,
    watch: Watch,
    report: Report,
) -> None:
    with ThreadPoolExecutor() as pool:
        faults = pool.map(lambda item: _image_fault(item[0], item[1], pixels), images)
        found = [
            (item, fault)
            for item, fault in zip(images, watch(faults, len(images)), strict=True)
            if fault is not None
        ]
    missing = sum(fault == _MISSING for _, fault in found)
    if missing == len(images) > 1:
        what = f"none of its {missing} frames is in {dataset.root}; say where they are with --frames"
        report(Problem(file, "", what))
        return
    for (path, video, index), fault in found:
        report(Problem(path, _place(video, index), fault))


_MISSING = "no such image"


def _image_fault(path: Path, video: Video, pixels: bool) -> str | None:
    try:
        if pixels:
            height, width = decode_image(read_bytes(path), path).shape[:2]
        else:
            width, height = image_size(path)
    except UserError as error:
        return str(error).removeprefix(f"{path}: ")
    if (width, height) == (video.width, video.height):
        return None
    turned = "; turned by its EXIF data?" if (height, width) == (video.width, video.height) else ""
    return f"is {width} x {height}, but its annotations are for {video.width} x {video.height}{turned}"


def _video_faults(path: Path, wanted: list[tuple[int, Video, int]]) -> Iterator[tuple[Video, int, str]]:
    """Decodes the whole file: only so is it known which of its frames can be read."""
    from ookd.data.video import open_source

    number, video, index = max(wanted, key=lambda item: item[0])
    if not path.exists():
        yield video, index, "no such video"
        return
    try:
        with open_source(path) as source:
            width, height = source.width, source.height
            readable = sum(1 for _ in source)
    except UserError as error:
        yield video, index, str(error).removeprefix(f"{path}: ")
        return
    if number >= readable:
        yield video, index, f"frame {number} is named, but only {readable} frames can be read"
    for _, video, index in wanted:
        if (width, height) != (video.width, video.height):
            yield video, index, f"is {width} x {height}, but annotated for {video.width} x {video.height}"
            return


def _place(video: Video, index: int) -> str:
    return f"video {video.id}, frame {index}"
