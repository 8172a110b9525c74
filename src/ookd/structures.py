"""The typed objects that travel between rooms, their shapes, and nothing else.

Axes: B batch, T frames, Q queries, N instances, K classes, D channels, H W pixels (h w: mask resolution).
Annotations are plain Python and numpy, so that reading and evaluating data needs no torch. With OOKD_DEBUG=1
in the environment every object checks its shapes when it is made.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

DEBUG = os.environ.get("OOKD_DEBUG", "") not in ("", "0")


# --- annotations -------------------------------------------------------------------------------------------


class Rle(TypedDict):
    """A mask as compressed COCO run lengths."""

    size: list[int]  # [height, width]
    counts: str


@dataclass(frozen=True, slots=True)
class Category:
    """A class as the data set numbers it. A model's label is the category's place in `Dataset.categories`."""

    id: int
    name: str


@dataclass(slots=True)
class Track:
    """One object over a whole video; the lists have one entry a frame, None where the object is not seen."""

    id: int
    category_id: int
    segmentations: list[Any]  # Rle, uncompressed RLE, polygons, or None
    boxes_xywh: list[list[float] | None]
    areas: list[float | None]
    iscrowd: bool = False
    extra: dict[str, Any] = field(default_factory=dict)  # what the format knows beyond this (OVIS occlusion)


@dataclass(slots=True)
class Video:
    """One recording: its frames by name, relative to `Dataset.root`, and its tracks."""

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
    """Videos with annotations. Images are read from `root` only when asked for."""

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
    """Some frames of one video with their masks. Frames may differ in size after augmentation."""

    images: list[NDArray[np.uint8]]  # T x [H, W, 3] RGB
    masks: list[NDArray[np.bool_]]  # T x [N, H, W]; an empty mask where the instance is not seen
    labels: NDArray[np.int64]  # [N]
    ids: NDArray[np.int64]  # [N] the track's id in its video
    frames: NDArray[np.int64]  # [T] frame numbers in the video
    video: str = ""  # where it comes from, for messages
    student: tuple[int, ...] = ()  # which of the T frames the student sees; empty: all
    seed: int = 0  # for what training draws by chance about this clip
    placed: NDArray[np.float64] | None = None  # [T, 2, 3] from pixels of the video's frames; None: unchanged
    labelled: bool = True  # False: nobody has said what is in it

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
    """Ground truth of one clip as tensors. Boxes are relative to the unpadded size of their own frame."""

    labels: Tensor  # [N] int64
    ids: Tensor  # [N] int64
    boxes: Tensor  # [N, T, 4] cx cy w h in 0..1, zeros where not visible
    masks: Tensor  # [N, T, H, W] bool, padded like the frames
    visible: Tensor  # [N, T] bool

    def __post_init__(self) -> None:
        if DEBUG:
            n, t = self.visible.shape
            assert self.labels.shape == self.ids.shape == (n,)
            assert self.boxes.shape == (n, t, 4)
            assert self.masks.shape[:2] == (n, t)

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, frames: Tensor) -> Tracks:
        """The same instances in some of the frames only."""
        boxes, masks, visible = self.boxes[:, frames], self.masks[:, frames], self.visible[:, frames]
        return Tracks(self.labels, self.ids, boxes, masks, visible)

    def to(self, device: Any) -> Tracks:
        return Tracks(
            self.labels.to(device),
            self.ids.to(device),
            self.boxes.to(device),
            self.masks.to(device),
            self.visible.to(device),
        )


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a clip of a batch comes from."""

    video: str
    frames: NDArray[np.int64]  # [T] frame numbers in the video
    placed: NDArray[np.float64]  # [T, 2, 3] from pixels of the video's frames to those of the batch
    labelled: bool = True  # False: its tracks are empty because nobody has said what is in it

    def at(self, frames: list[int]) -> Origin:
        """The same clip with some of its frames only."""
        return Origin(self.video, self.frames[frames], self.placed[frames], self.labelled)


@dataclass(slots=True)
class Batch:
    """Clips padded to one size, bottom right."""

    frames: Tensor  # [B, T, 3, H, W] uint8 RGB
    pad: Tensor  # [B, T, H, W] bool, True where there is no image
    tracks: list[Tracks]  # B
    student: Tensor | None = None  # [B, S] which of the T frames the student sees; None: all
    seeds: Sequence[int] = ()  # B, one a clip; empty: all 0
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
        """Some of the clips."""
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
        """The batch with only the frames that the student sees."""
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
        """Numbers in 0..1 [B, *shape] that belong to the clips: the same on every rank, worker and device."""
        import torch

        rows = [
            torch.rand(shape, generator=torch.Generator().manual_seed(seed))
            for seed in (self.seeds or [0] * len(self.frames))
        ]
        return torch.stack(rows).to(self.frames.device)


# --- what models answer ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Asked:
    """How a model's queries came about, so that another model can be asked the same."""

    places: Tensor  # [B, Q, 2] where they start, x and y in 0..1
    between: Tensor | None  # [1, Q, Q] added to the attention among them: -inf hides one from another
    layers: list[Tensor]  # [B, Q, D'] their features from the start to the answer


@dataclass(slots=True)
class FrameQueries:
    """What an online model says about frames. Logits go through a sigmoid; there is no background class."""

    logits: Tensor  # [B, Q, K]
    boxes: Tensor | None  # [B, Q, 4] cx cy w h in 0..1 of the unpadded frame
    embed: Tensor  # [B, Q, D] compared by the tracker
    features: Tensor  # [B, Q, D'] what distillation reads
    masks: Callable[[Tensor], Tensor]  # select [B, N] -> mask logits [B, N, h, w]; H / h is the stride
    # what the model knows of places [B, C, h', w'], each map with its own size; masks are made from the first
    maps: list[Tensor] = field(default_factory=list, kw_only=True)
    asked: Asked | None = field(default=None, kw_only=True)


# some frames [F] of B * T, places [F, N, 2], between -> what the frame network answers to queries there
Probe = Callable[["Tensor", "Tensor", "Tensor | None"], FrameQueries]


@dataclass(slots=True)
class ClipQueries:
    """What an offline model says about clips: one query is one instance in all T frames."""

    logits: Tensor  # [B, Q, K]
    boxes: Tensor | None  # [B, T, Q, 4]
    features: Tensor  # [B, Q, D']
    frame_features: Tensor  # [B, T, Q, D']
    masks: Callable[[Tensor], Tensor]  # select [B, N] -> mask logits [B, N, T, h, w]
    maps: list[Tensor] = field(default_factory=list, kw_only=True)  # [B, T, C, h', w'] as a frame's are
    probe: Probe | None = field(default=None, kw_only=True)


@dataclass(slots=True)
class Lesson:
    """What a student answered in a training step, for distillation to build on. F = B * S student frames."""

    answer: FrameQueries  # of F frames
    query: Tensor  # [F, N] the query that was matched to each instance of the clip
    valid: Tensor  # [F, N] bool: the instance is there, and in view


# --- what tracking answers ---------------------------------------------------------------------------------


@dataclass(slots=True)
class FrameResult:
    """What is known at one frame: the objects in view, by identity."""

    index: int  # frame number, from 0
    ids: NDArray[np.int64]  # [N]
    labels: NDArray[np.int64]  # [N] index into `names`
    scores: NDArray[np.float32]  # [N]
    boxes_xyxy: NDArray[np.float32]  # [N, 4] pixels
    masks: NDArray[np.bool_]  # [N, H, W]
    names: Sequence[str] = ()
    image: NDArray[np.uint8] | None = None  # [H, W, 3] RGB
    seconds: float | None = None  # when the frame is shown, from the start of the video

    def __post_init__(self) -> None:
        if DEBUG:
            n = len(self.ids)
            assert len(self.labels) == len(self.scores) == len(self.boxes_xyxy) == len(self.masks) == n
            assert len(set(self.ids.tolist())) == n

    def __len__(self) -> int:
        return len(self.ids)

    def sure(self, score: float) -> FrameResult:
        """The same frame with the objects of at least this score."""
        keep = self.scores >= score
        return replace(
            self,
            ids=self.ids[keep],
            labels=self.labels[keep],
            scores=self.scores[keep],
            boxes_xyxy=self.boxes_xyxy[keep],
            masks=self.masks[keep],
        )


@dataclass(slots=True)
class TrackResult:
    """One line of a benchmark's result list: a track, a class, a score."""

    video_id: int
    category_id: int
    score: float
    segmentations: list[Rle | None]  # one a frame
