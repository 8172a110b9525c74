"""The labels under review: what the page shows, and its edits."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import cv2

from ookd.data import rle
from ookd.data.confidence import SCORE, SCORES
from ookd.data.formats import choose, find
from ookd.data.formats.edits import (
    REVIEWED,
    Edit,
    after,
    append_edit,
    edited,
    log_beside,
    read_edits,
)
from ookd.data.formats.json_annotations import JSON, read_annotations
from ookd.data.formats.problems import raise_problem
from ookd.data.frames import read_frames, video_name
from ookd.errors import UserError
from ookd.structures import Dataset, Track, Video

AHEAD = 16  # frames that are decoded together, because the page asks for them next
KEPT = 256  # encoded frames in memory
QUALITY = 85  # of the JPEG images that the page shows


@dataclass(frozen=True, slots=True)
class FrameKey:
    video: int
    frame: int


class ReviewedLabels:
    """The videos of a labelled folder with the edits so far. Thread-safe."""

    def __init__(self, path: Path, split: str | None = None) -> None:
        source = choose(find(path), path, split)
        if source.format is not JSON:
            raise UserError(f"{path}: only JSON labels can be reviewed; ookd data convert writes them")
        dataset = read_annotations(source.path, raise_problem)
        assert dataset is not None, "a reader that gives up has reported why"
        if source.frames is not None:
            dataset.root = source.frames
        self.name, self.file, self.log = path.resolve().name, source.path, log_beside(source.path)
        self.categories = [category.name for category in dataset.categories]
        self._dataset: Dataset = dataset
        self._videos = {video.id: video for video in dataset.videos}
        self._edits = read_edits(self.log, raise_problem)
        self._now: dict[int, Video] = {}
        self._frames: OrderedDict[FrameKey, bytes] = OrderedDict()
        self._editing, self._decoding = Lock(), Lock()
        for id in self._videos:
            self._replay(id)

    def overview(self) -> dict[str, Any]:
        """A summary of each video."""
        videos = [
            {
                "id": video.id,
                "name": video_name(video),
                "frames": video.length,
                "tracks": len(video.tracks),
                "unsure": sum(track.iscrowd for track in video.tracks),
                "done": bool(video.extra.get(REVIEWED)),
            }
            for video in self._now.values()
        ]
        return {"name": self.name, "classes": self.categories, "videos": videos}

    def video(self, id: int) -> dict[str, Any]:
        """One video with its tracks, the least certain first."""
        video = self._known(id)
        edits = [edit.model_dump(exclude_none=True) for edit in self._edits if edit.video == id]
        fps = video.extra.get("fps")
        return {
            "id": id,
            "name": video_name(video),
            "width": video.width,
            "height": video.height,
            "frames": video.length,
            "fps": fps if isinstance(fps, int | float) else 10,
            "done": bool(video.extra.get(REVIEWED)),
            "edits": edits,
            "tracks": sorted(
                (self._track(track) for track in video.tracks), key=lambda track: track["score"]
            ),
        }

    def masks(self, id: int, frame: int) -> dict[str, Any]:
        """The run lengths of each track that a frame shows, by track id."""
        video = self._known(id)
        self._check_frame(video, frame)
        found = {}
        for track in video.tracks:
            if track.segmentations[frame] is not None:
                try:
                    mask = rle.from_any(track.segmentations[frame], video.height, video.width)
                except rle.RleError as error:
                    raise UserError(f"video {id}, frame {frame}, track {track.id}: {error}") from None
                found[str(track.id)] = mask["counts"]
        return {"width": video.width, "height": video.height, "masks": found}

    def image(self, id: int, frame: int) -> bytes:
        """A frame as JPEG. The next frames are decoded too, so that playing does not stutter."""
        video = self._known(id)
        self._check_frame(video, frame)
        with self._decoding:
            if FrameKey(id, frame) not in self._frames:
                wanted = range(frame, min(frame + AHEAD, video.length))
                for number, image in zip(wanted, read_frames(self._dataset, video, wanted), strict=True):
                    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
                    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
                    self._frames[FrameKey(id, number)] = encoded.tobytes()
                while len(self._frames) > KEPT:
                    self._frames.popitem(last=False)
            return self._frames[FrameKey(id, frame)]

    def edit(self, edit: Edit) -> None:
        """Make an edit and log it; raises `ValueError` if it is not possible."""
        with self._editing:
            video = self._known(edit.video)
            edits = after(self._edits, edit)
            if edit.op != "undo":
                edited(video, edit, self._dataset.categories)
            append_edit(self.log, edit)
            self._edits = edits
            self._replay(edit.video)

    def free_id(self) -> int:
        """An id for a track that an edit creates."""
        made = [edit.new for edit in self._edits if edit.new is not None]
        return 1 + max(
            [track.id for video in self._videos.values() for track in video.tracks] + made, default=0
        )

    def _replay(self, id: int) -> None:
        video = self._videos[id]
        for edit in self._edits:
            if edit.video == id:
                try:
                    video = edited(video, edit, self._dataset.categories)
                except ValueError as error:
                    raise UserError(f"{self.log}: video {id}: '{edit.op}': {error}") from None
        self._now[id] = video

    def _known(self, id: int) -> Video:
        if id not in self._now:
            raise UserError(f"there is no video {id}")
        return self._now[id]

    def _check_frame(self, video: Video, frame: int) -> None:
        if not 0 <= frame < video.length:
            raise UserError(f"video {video.id} has no frame {frame}")

    def _track(self, track: Track) -> dict[str, Any]:
        label = self._dataset.label_of()[track.category_id]
        score = track.extra.get(SCORE)
        scores = track.extra.get(SCORES)
        return {
            "id": track.id,
            "class": self.categories[label],
            "label": label,
            "score": float(score) if isinstance(score, int | float) else 1.0,
            "doubtful": track.iscrowd,
            "seen": _spans(track.segmentations),
            "scores": scores if isinstance(scores, list) else None,
        }


def _spans(values: Sequence[Any]) -> list[list[int]]:
    """The runs of frames [first, last] in which a track is visible."""
    spans: list[list[int]] = []
    for frame, value in enumerate(values):
        if value is None:
            continue
        if spans and spans[-1][1] == frame - 1:
            spans[-1][1] = frame
        else:
            spans.append([frame, frame])
    return spans
