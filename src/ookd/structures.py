"""The typed objects that the parts of the package exchange, and their shapes.

Axes: B batch, T frames, Q queries, N instances, K classes, D channels, H W pixels (h w: mask resolution).
Annotations are plain Python and numpy, so that reading and evaluating data needs no torch. With OOKD_DEBUG=1
in the environment, objects check their shapes when they are made.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import supervision as sv
    from torch import Tensor

DEBUG = os.environ.get("OOKD_DEBUG", "") not in ("", "0")
REPR_OBJECTS = 5  # that a frame's short description names


# --- annotations -------------------------------------------------------------------------------------------


class Rle(TypedDict):
    """A mask as compressed COCO run lengths."""

    size: list[int]  # [height, width]
    counts: str


@dataclass(frozen=True, slots=True)
class Category:
    """A class with its id in the data set. A label is the index of a category in `Dataset.categories`."""

    id: int
    name: str


@dataclass(slots=True)
class Track:
    """One object over a whole video. The lists have one entry per frame, None where it is not visible."""

    id: int
    category_id: int
    segmentations: list[Any]  # Rle, uncompressed RLE, polygons, or None
    boxes_xywh: list[list[float] | None]
    areas: list[float | None]
    iscrowd: bool = False
    extra: dict[str, Any] = field(default_factory=dict)  # other fields of the format, such as OVIS occlusion


@dataclass(slots=True)
class Video:
    """One video: the names of its frames, relative to `Dataset.root`, and its tracks."""

    id: int
    width: int
    height: int
    file_names: list[str]
    tracks: list[Track] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def length(self) -> int:
        return len(self.file_names)


@dataclass(slots=True)
class Dataset:
    """Videos with annotations. Images are in `root` and are read only on request."""

    categories: list[Category]
    videos: list[Video]
    root: Path | None = None
    name: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    def label_of(self) -> dict[int, int]:
        """Category id -> label, the index in `categories`."""
        return {category.id: label for label, category in enumerate(self.categories)}


# --- training ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Clip:
    """Some frames of one video with their masks. After augmentation, frames may differ in size."""

    images: list[NDArray[np.uint8]]  # T x [H, W, 3] RGB
    masks: list[NDArray[np.bool_]]  # T x [N, H, W]; empty where the instance is not seen
    labels: NDArray[np.int64]  # [N]
    ids: NDArray[np.int64]  # [N] id of the track in its video
    frames: NDArray[np.int64]  # [T] frame numbers in the video
    video: str = ""  # its name, for messages
    student: tuple[int, ...] = ()  # the frames (of T) that the student sees; empty: all
    seed: int = 0  # of the random numbers that training draws for this clip
    placed: NDArray[np.float64] | None = None  # [T, 2, 3] affine, from pixels of the video; None: unchanged
    labelled: bool = True  # False: it has no annotations
    # T x [H, W] True where something is that may be an object or not; None: nowhere
    ignore: list[NDArray[np.bool_]] | None = None
    weights: NDArray[np.float32] | None = None  # [N, T] of an instance's losses in a frame; None: all 1

    def __post_init__(self) -> None:
        if DEBUG:
            assert len(self.images) == len(self.masks) == len(self.frames) > 0
            assert len(self.labels) == len(self.ids)
            for image, masks in zip(self.images, self.masks, strict=True):
                assert image.ndim == 3
                assert image.dtype == np.uint8
                assert masks.shape == (len(self.ids), *image.shape[:2])


@dataclass(slots=True)
class Tracks:
    """Ground truth of one clip as tensors. Boxes are relative to the unpadded size of their frame."""

    labels: Tensor  # [N] int64
    ids: Tensor  # [N] int64
    boxes: Tensor  # [N, T, 4] cx cy w h in 0..1, zeros where not visible
    masks: Tensor  # [N, T, H, W] bool, padded like the frames
    visible: Tensor  # [N, T] bool
    # [T, H, W] bool, where something is that is neither an object to learn nor background; None: nowhere
    ignore: Tensor | None = None
    weights: Tensor | None = None  # [N, T] of an instance's mask and class losses in a frame; None: all 1

    def __post_init__(self) -> None:
        if DEBUG:
            n, t = self.visible.shape
            assert self.labels.shape == self.ids.shape == (n,)
            assert self.boxes.shape == (n, t, 4)
            assert self.masks.shape[:2] == (n, t)

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, frames: Tensor) -> Tracks:
        """The same instances in some of the frames."""
        boxes, masks, visible = self.boxes[:, frames], self.masks[:, frames], self.visible[:, frames]
        ignore = None if self.ignore is None else self.ignore[frames]
        weights = None if self.weights is None else self.weights[:, frames]
        return Tracks(self.labels, self.ids, boxes, masks, visible, ignore, weights)

    def to(self, device: Any) -> Tracks:
        return Tracks(
            self.labels.to(device),
            self.ids.to(device),
            self.boxes.to(device),
            self.masks.to(device),
            self.visible.to(device),
            None if self.ignore is None else self.ignore.to(device),
            None if self.weights is None else self.weights.to(device),
        )


@dataclass(frozen=True, slots=True)
class Origin:
    """The source of a clip in a batch."""

    video: str
    frames: NDArray[np.int64]  # [T] frame numbers in the video
    placed: NDArray[np.float64]  # [T, 2, 3] affine, from pixels of the video to those of the batch
    labelled: bool = True  # False: it has no annotations, so its tracks are empty

    def at(self, frames: list[int]) -> Origin:
        """The same clip with some of its frames."""
        return Origin(self.video, self.frames[frames], self.placed[frames], self.labelled)


@dataclass(slots=True)
class Batch:
    """Clips padded to one size, at the bottom and on the right."""

    frames: Tensor  # [B, T, 3, H, W] uint8 RGB
    pad: Tensor  # [B, T, H, W] bool, True where there is no image
    tracks: list[Tracks]  # B
    student: Tensor | None = None  # [B, S] the frames (of T) that the student sees; None: all
    seeds: Sequence[int] = ()  # B, one for each clip; empty: all 0
    origins: Sequence[Origin] = ()  # B; empty: unknown, and all labelled

    def to(self, device: Any) -> Batch:
        return Batch(
            self.frames.to(device),
            self.pad.to(device),
            [tracks.to(device) for tracks in self.tracks],
            None if self.student is None else self.student.to(device),
            self.seeds,
            self.origins,
        )

    def pick(self, clips: Sequence[int]) -> Batch:
        """A batch of some of the clips."""
        rows = list(clips)
        return Batch(
            self.frames[rows],
            self.pad[rows],
            [self.tracks[b] for b in rows],
            None if self.student is None else self.student[rows],
            [self.seeds[b] for b in rows] if self.seeds else (),
            [self.origins[b] for b in rows] if self.origins else (),
        )

    def seen_by_student(self) -> Batch:
        """The batch reduced to the frames that the student sees."""
        if self.student is None:
            return self
        rows = self.student.new_tensor(range(len(self.frames))).unsqueeze(1)  # [B, 1]
        return Batch(
            self.frames[rows, self.student],
            self.pad[rows, self.student],
            [tracks.at(places) for tracks, places in zip(self.tracks, self.student, strict=True)],
            None,
            self.seeds,
            [origin.at(row) for origin, row in zip(self.origins, self.student.tolist(), strict=False)],
        )

    def draw(self, *shape: int) -> Tensor:
        """Random numbers in 0..1 [B, *shape] from the seeds of the clips, independent of rank and device."""
        import torch

        rows = [
            torch.rand(shape, generator=torch.Generator().manual_seed(seed))
            for seed in (self.seeds or [0] * len(self.frames))
        ]
        return torch.stack(rows).to(self.frames.device)


# --- answers of models -------------------------------------------------------------------------------------


@dataclass(slots=True)
class FrameQueries:
    """An online model's output for frames. Logits go through a sigmoid; there is no background class."""

    logits: Tensor  # [B, Q, K]
    boxes: Tensor | None  # [B, Q, 4] cx cy w h in 0..1 of the unpadded frame
    embed: Tensor  # [B, Q, D] for association by the tracker
    features: Tensor  # [B, Q, D'] for distillation
    masks: Callable[[Tensor], Tensor]  # select [B, N] -> mask logits [B, N, h, w]; H / h is the stride
    # feature maps [B, C, h', w'], each of its own size; masks are made from the first
    maps: list[Tensor] = field(default_factory=list, kw_only=True)
    # [B, Q] int64, which object of its stream a query holds, -1 for none; None: the model does not say
    identity: Tensor | None = field(default=None, kw_only=True)


@dataclass(slots=True)
class ClipQueries:
    """An offline model's output for clips: one query is one instance in all T frames."""

    logits: Tensor  # [B, Q, K]
    boxes: Tensor | None  # [B, T, Q, 4]
    features: Tensor  # [B, Q, D']
    frame_features: Tensor  # [B, T, Q, D']
    masks: Callable[[Tensor], Tensor]  # select [B, N] -> mask logits [B, N, T, h, w]
    maps: list[Tensor] = field(default_factory=list, kw_only=True)  # [B, T, C, h', w'], as those of frames


@dataclass(slots=True)
class StudentMatches:
    """A student's output in a training step, matched to the ground truth. F = B * S frames."""

    answer: FrameQueries  # of F frames
    query: Tensor  # [F, N] the query that was matched to each instance of the clip
    valid: Tensor  # [F, N] bool: the instance is there, and in view


# --- answers of tracking -----------------------------------------------------------------------------------


def no_image() -> NDArray[np.uint8]:
    """The image of a result whose frame was not kept."""
    return np.zeros((0, 0, 3), np.uint8)


@dataclass(slots=True, repr=False)
class FrameResult:
    """The objects visible in one frame.

    It can be indexed like `supervision.Detections`, and stays a `FrameResult`: `result[result.scores > 0.5]`,
    `result[:5]`, `result[[2, 0]]`, `result[3]`.
    """

    index: int  # frame number, from 0
    ids: NDArray[np.int64]  # [N]
    labels: NDArray[np.int64]  # [N] index into `names`
    scores: NDArray[np.float32]  # [N]
    boxes_xyxy: NDArray[np.float32]  # [N, 4] pixels
    masks: NDArray[np.bool_]  # [N, H, W]
    names: Sequence[str] = ()
    image: NDArray[np.uint8] = field(default_factory=no_image)  # [H, W, 3] RGB
    seconds: float | None = None  # time of the frame, from the start of the video

    def __post_init__(self) -> None:
        if DEBUG:
            n = len(self.ids)
            assert len(self.labels) == len(self.scores) == len(self.boxes_xyxy) == len(self.masks) == n
            assert len(set(self.ids.tolist())) == n

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, chosen: int | slice | Sequence[int] | NDArray[Any]) -> FrameResult:
        """The same frame with some of its objects only."""
        rows = np.atleast_1d(np.arange(len(self))[chosen])
        return replace(
            self,
            ids=self.ids[rows],
            labels=self.labels[rows],
            scores=self.scores[rows],
            boxes_xyxy=self.boxes_xyxy[rows],
            masks=self.masks[rows],
        )

    def __repr__(self) -> str:
        known = [
            f"{self.class_name(label)} {id} ({score:.2f})"
            for id, label, score in zip(self.ids.tolist(), self.labels.tolist(), self.scores, strict=True)
        ]
        more = f", and {len(known) - REPR_OBJECTS} more" if len(known) > REPR_OBJECTS else ""
        return f"FrameResult(index={self.index}, [{', '.join(known[:REPR_OBJECTS])}{more}])"

    def class_name(self, label: int) -> str:
        return self.names[label] if label < len(self.names) else f"class {label}"

    def plot(self) -> NDArray[np.uint8]:
        """A copy of the image with the objects drawn in, as `ookd track` draws them."""
        overlay: Any = import_module("ookd.drawing.overlay")  # is built on this module
        drawn: NDArray[np.uint8] = overlay.Overlay().draw(self)
        return drawn

    def to_supervision(self) -> sv.Detections:
        """The objects as `supervision.Detections`, for its annotators, zones and counters."""
        import supervision as sv  # takes half a second

        return sv.Detections(
            xyxy=self.boxes_xyxy.astype(np.float32).reshape(-1, 4),
            mask=self.masks,
            confidence=self.scores.astype(np.float32),
            class_id=self.labels.astype(int),
            tracker_id=self.ids.astype(int),
            data={"class_name": np.array([self.class_name(label) for label in self.labels.tolist()], str)},
        )


@dataclass(slots=True)
class TrackResult:
    """One entry of a benchmark's result list: a track with a class and a score."""

    video_id: int
    category_id: int
    score: float
    segmentations: list[Rle | None]  # one a frame
    # confidence of each frame, None where not visible
    frame_scores: list[float | None] | None = None
