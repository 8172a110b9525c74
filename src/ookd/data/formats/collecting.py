"""Collects data sets from single masks, each of a track in a frame of a video."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ookd import limits
from ookd.data import rle
from ookd.data.formats.problems import Problem, Report
from ookd.structures import Category, Dataset, Track, Video


@dataclass(slots=True)
class Collector:
    """The classes and tracks so far. Errors are reported and left out."""

    file: Path
    report: Report
    classes: dict[str, Category] = field(default_factory=dict)
    videos: list[Video] = field(default_factory=list)
    _tracks: dict[tuple[int, Hashable], Track] = field(default_factory=dict)
    _frames: int = 0  # of all videos
    _full: set[int] = field(default_factory=set)  # videos with more tracks than memory is meant for

    def class_named(self, name: str) -> Category:
        """The class of a name; a new one gets the next number."""
        return self.classes.setdefault(name, Category(len(self.classes) + 1, name))

    def video(
        self, name: str, width: int, height: int, length: int, file_names: Iterable[str]
    ) -> Video | None:
        """A new video, unless its frames are too large or too many, or there are none."""
        fault = limits.PIXELS.exceeded(width * height) or limits.SIDE.exceeded(max(width, height))
        fault = fault or limits.FRAMES.exceeded(self._frames + length)
        if fault is None and min(width, height, length) < 1:
            fault = f"{length} frames of {width} x {height} pixels"
        if fault is not None:
            self.report(Problem(self.file, f"video {name}", f"has {fault}"))
            return None
        self._frames += length
        names = list(file_names)
        self.videos.append(Video(len(self.videos) + 1, width, height, names, extra={"name": name}))
        return self.videos[-1]

    def add(self, video: Video, key: Hashable, name: str, frame: int, mask: Any) -> None:
        """The mask of a track, known by `key` in its video, in one frame."""
        where = f"video {video.extra['name']}, track {key}"
        if not 0 <= frame < video.length:
            what = f"frame {frame} is not one of the video's {video.length}"
            return self.report(Problem(self.file, where, what))
        where = f"{where}, frame {frame}"
        try:
            checked = rle.from_any(mask, video.height, video.width)
        except rle.RleError as error:
            return self.report(Problem(self.file, where, str(error)))
        track = self._tracks.get((video.id, key))
        if track is None and self._is_full(video):
            return None
        if track is None:
            none: list[Any] = [None] * video.length
            category = self.class_named(name)
            number = len(self._tracks) + 1
            track = Track(number, category.id, none, list(none), list(none))
            self._tracks[video.id, key] = track
            video.tracks.append(track)
        elif track.category_id != self.class_named(name).id:
            return self.report(Problem(self.file, where, f"is a '{name}', and another class in other frames"))
        if track.segmentations[frame] is not None:
            return self.report(Problem(self.file, where, "has two masks; give each object its own id"))
        if area := rle.area(checked):
            track.segmentations[frame] = mask
            track.boxes_xywh[frame], track.areas[frame] = rle.box_xywh(checked), area

    def _is_full(self, video: Video) -> bool:
        """Whether one more track is too much, which is reported once: a few bytes of a file become as much
        memory as the video has frames."""
        fault = limits.TRACK_FRAMES.exceeded((len(video.tracks) + 1) * video.length)
        if fault is not None and video.id not in self._full:
            self._full.add(video.id)
            self.report(Problem(self.file, f"video {video.extra['name']}", f"has {fault}"))
        return fault is not None

    def dataset(self, root: Path) -> Dataset | None:
        """The whole set, or none if there is no video."""
        if not self.videos:
            self.report(Problem(self.file, "", "holds no video"))
            return None
        return Dataset(list(self.classes.values()), self.videos, root, root.name)
