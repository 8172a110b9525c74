"""A model that needs no training: it finds squares of known colours. And scenes of such squares to find."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ookd.data import rle
from ookd.data.formats import save_ytvis
from ookd.models.preprocess import MEAN, STD
from ookd.models.protocols import OnlineModel, State
from ookd.structures import Category, Clip, Dataset, FrameQueries, Track, Video
from toy_family import toy_family

PALETTE = np.array(
    [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [255, 0, 255], [0, 255, 255]], np.uint8
)
LABELS = [0, 1, 2, 0, 1, 2]  # the class of each colour
NAMES = ["apple", "leaf", "plum"]
GREY = 128
SIZE = (96, 128)
FRAMES = 24  # of a video


class ColourModel(OnlineModel):
    """Query q is PALETTE[q]. With `carry` the class scores also depend on how many frames went before."""

    def __init__(self, carry: bool = False) -> None:
        super().__init__()
        self.config, self.carry = CONFIG, carry
        self.register_buffer("palette", (torch.tensor(PALETTE) - torch.tensor(MEAN)) / torch.tensor(STD))
        self.calls = 0

    def forward(
        self, frames: Tensor, pad: Tensor, state: State | None = None
    ) -> tuple[FrameQueries, State | None]:
        self.calls += 1
        cells = F.avg_pool2d(frames, 4)  # [B, 3, h, w]
        away = (cells[:, None] - self.palette[None, :, :, None, None]).abs().amax(2)  # [B, Q, h, w]
        masks = (1 - away) * 8
        masks = masks.masked_fill(pad[:, None, ::4, ::4], -8)
        count = (masks > 0).sum((2, 3)).float()  # [B, Q]
        steps = torch.zeros(len(frames), 1) if state is None else state["steps"]
        sure = torch.where(count > 0, 1.5 + 0.01 * count - 0.05 * steps * self.carry, -6.0)
        logits = torch.where(F.one_hot(torch.tensor(LABELS), len(NAMES)).bool(), sure[..., None], -6.0)
        embed = torch.eye(len(PALETTE)).expand(len(frames), -1, -1) * 5
        queries = FrameQueries(
            logits, None, embed, embed, lambda select: masks[torch.arange(len(masks))[:, None], select]
        )
        return queries, {"steps": steps + 1} if self.carry else None

    def begin(self, streams: int) -> State | None:
        return {"steps": torch.zeros(streams, 1)} if self.carry else None


CONFIG = toy_family(ColourModel, len(NAMES))


def scene(frame: int, size: tuple[int, int] = SIZE, colours: Sequence[int] = (0, 1, 2, 3)) -> np.ndarray:
    """Squares on grey, each in its lane; of 20 frames each colour is away for 5 in a row."""
    image = np.full((*size, 3), GREY, np.uint8)
    for place, colour in enumerate(colours):
        y, x, side = corner(frame, place)
        if (frame + 5 * colour) % 20 < 15:
            image[y : y + side, x : x + side] = PALETTE[colour]
    return image


def corner(frame: int, place: int) -> tuple[int, int, int]:
    """Top, left and side of the square in one of four lanes, in multiples of the mask stride."""
    return 24 * place, 4 * ((frame + 7 * place) % 24), 16


class Scenes:
    """Six videos of three or four squares; in the last ones two squares look alike."""

    names = NAMES
    colours = ((0, 1, 2, 3), (3, 4, 5), (5, 0, 1, 2), (2, 3, 4), (1, 1, 0), (2, 5, 2, 5))

    def __len__(self) -> int:
        return len(self.colours)

    def video_length(self, i: int) -> int:
        return FRAMES

    def clip(self, i: int, frames: list[int]) -> Clip:
        none = np.zeros(0, np.int64)
        images = [scene(frame, SIZE, self.colours[i]) for frame in frames]
        return Clip(images, [np.zeros((0, *SIZE), bool)] * len(frames), none, none, np.array(frames))

    def truth(self) -> Dataset:
        """Each square a little off, so that tracks are right at some IoU thresholds only; one is a crowd."""
        videos = []
        for i, colours in enumerate(self.colours):
            tracks = []
            for place, colour in enumerate(colours):
                masks = [self.square(frame, place, colour) for frame in range(FRAMES)]
                encoded = [rle.encode(mask) if mask.any() else None for mask in masks]
                boxes = [None if one is None else rle.box_xywh(one) for one in encoded]
                areas = [float(mask.sum()) or None for mask in masks]
                crowd = (i, place) == (0, 1)
                tracks.append(Track(10 * i + place, LABELS[colour] + 1, encoded, boxes, areas, crowd))
            files = [f"{i}/{frame}.png" for frame in range(FRAMES)]
            videos.append(Video(i + 1, SIZE[1], SIZE[0], files, tracks))
        return Dataset([Category(label + 1, name) for label, name in enumerate(NAMES)], videos)

    def write(self, folder: Path) -> Path:
        """The frames and their annotations on disk; the path of the annotations."""
        truth = self.truth()
        for i, video in enumerate(truth.videos):
            for frame, name in enumerate(video.file_names):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(folder / name), scene(frame, SIZE, self.colours[i])[:, :, ::-1])
        save_ytvis(truth, folder / "instances.json")
        return folder / "instances.json"

    def square(self, frame: int, place: int, colour: int) -> np.ndarray:
        mask = np.zeros(SIZE, bool)
        y, x, side = corner(frame, place)
        if (frame + 5 * colour) % 20 < 15:
            mask[y : y + side, x + place : x + side + place] = True
        return mask
