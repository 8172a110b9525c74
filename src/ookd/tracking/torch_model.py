"""A PyTorch model as an eye: resize, pad, one forward pass, and arrays out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ookd.config.tracker import TrackerConfig
from ookd.errors import UserError
from ookd.masks import Geometry
from ookd.models.families import family_of
from ookd.models.preprocess import Preprocessing
from ookd.models.protocols import OnlineModel, State
from ookd.tracking.frame_model import FrameModel, Image, RawPredictions, check_image, detect
from ookd.tracking.select import Detections, Floats, Ints


class TorchFrameModel(FrameModel):
    def __init__(self, model: OnlineModel, device: torch.device) -> None:
        self.model, self.device, self.family = model, device, family_of(model)

    @torch.inference_mode()
    def look(
        self, images: Sequence[Image], short_side: int | None, state: State | None = None
    ) -> tuple[RawPredictions, State | None]:
        preprocessing = self.family.preprocessing
        frames, pad, geometries = prepare(images, short_side, preprocessing, self.device)
        if state is None:
            state = self.model.begin(len(images))
        queries, state = self.model(preprocessing.normalise(frames, pad), pad, state)

        @torch.inference_mode()
        def masks(select: Ints) -> Floats:
            return _numpy(queries.masks(torch.from_numpy(select).to(self.device)))

        boxes = None if queries.boxes is None else _numpy(queries.boxes)
        logits, embed = _numpy(self.family.class_logits(queries.logits)), _numpy(queries.embed)
        return RawPredictions(logits, boxes, embed, masks, frames.shape[-2], geometries), state


def observe(
    model: OnlineModel | FrameModel,
    images: Sequence[Image],
    config: TrackerConfig,
    device: torch.device,
    state: State | None = None,
) -> tuple[list[Detections], list[Geometry], State | None]:
    """The detections of each image, from one forward pass."""
    eye = model if isinstance(model, FrameModel) else TorchFrameModel(model, device)
    sight, state = eye.look(images, config.short_side, state)
    return (*detect(sight, config), state)


def device_of(model: nn.Module) -> torch.device:
    """Where a model's weights are; the CPU for one without any."""
    for weights in chain(model.parameters(), model.buffers()):
        return weights.device
    return torch.device("cpu")


def device_named(name: str) -> torch.device:
    """A device by name; "auto" is the fastest one here."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"device {name} is not to be had here (auto, cpu, cuda, mps): {reason}") from None
    return device


def prepare(
    images: Sequence[Image], short_side: int | None, preprocessing: Preprocessing, device: torch.device
) -> tuple[Tensor, Tensor, list[Geometry]]:
    """Frames [B, 3, H, W] 0..255 and pad mask [B, H, W]: images resized, all placed top left in one size."""
    resized = [_resize(image, short_side, preprocessing) for image in images]
    sizes = [(frame.shape[1], frame.shape[2]) for frame in resized]
    height, width = (preprocessing.padded(max(side)) for side in zip(*sizes, strict=True))
    frames = torch.zeros(len(images), 3, height, width, dtype=torch.uint8)
    pad = torch.ones(len(images), height, width, dtype=torch.bool)
    for b, (frame, (h, w)) in enumerate(zip(resized, sizes, strict=True)):
        frames[b, :, :h, :w] = frame
        pad[b, :h, :w] = False
    geometries = [
        Geometry(image.shape[0], image.shape[1], *size) for image, size in zip(images, sizes, strict=True)
    ]
    return frames.to(device), pad.to(device), geometries


def _resize(image: Image, short_side: int | None, preprocessing: Preprocessing) -> Tensor:
    """[3, H, W] at the size that the model sees."""
    check_image(image)
    frame = torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)
    height, width = image.shape[:2]
    size = preprocessing.resized(height, width, short_side)
    if size == (height, width):
        return frame
    return F.interpolate(frame[None], size, mode="bilinear", antialias=True)[0]


def _numpy(values: Tensor) -> Floats:
    array: Floats = values.float().cpu().numpy()
    return array
