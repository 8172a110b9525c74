"""A PyTorch model as a `FrameModel`: resize, pad, one forward pass, and arrays out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ookd.data.video.images import check_image
from ookd.errors import UserError
from ookd.masks import Floats, Geometry, Ints
from ookd.models.families import family_of
from ookd.models.preprocess import Preprocessing
from ookd.models.protocols import OnlineModel, State
from ookd.tracking.frame_model import Arrays, FrameModel, Image, RawPredictions


class TorchFrameModel(FrameModel):
    def __init__(self, model: OnlineModel, device: torch.device | str | None = None) -> None:
        self.model, self.family = model, family_of(model)
        self.device = device_of(model) if device is None else torch.device(device)

    @torch.inference_mode()
    def infer(
        self, images: Sequence[Image], short_side: int | None, state: State | None = None
    ) -> tuple[RawPredictions, State | None]:
        for image in images:
            check_image(image)
        preprocessing = self.family.preprocessing
        frames, pad, geometries = prepare(images, short_side or self.model.side, preprocessing, self.device)
        if state is None:
            state = self.begin(len(images))
        queries, state = self.model(preprocessing.normalise(frames, pad), pad, state)

        @torch.inference_mode()
        def masks(select: Ints) -> Floats:
            return _numpy(queries.masks(torch.from_numpy(select).to(self.device)))

        boxes = None if queries.boxes is None else _numpy(queries.boxes)
        logits, embed = _numpy(self.family.class_logits(queries.logits)), _numpy(queries.embed)
        identity = None if queries.identity is None else queries.identity.cpu().numpy()
        return RawPredictions(logits, boxes, embed, masks, frames.shape[-2], geometries, identity), state

    @torch.inference_mode()
    def begin(self, streams: int) -> State | None:
        state = self.model.begin(streams)
        return None if state is None else {name: tensor.detach() for name, tensor in state.items()}

    def batch_states(self, states: Sequence[State]) -> State:
        return {name: torch.cat([state[name] for state in states]) for name in states[0]}

    def save_state(self, state: State) -> Arrays:
        return {name: tensor.cpu().numpy() for name, tensor in state.items()}

    def load_state(self, arrays: Arrays) -> State:
        return {name: torch.from_numpy(array).to(self.device) for name, array in arrays.items()}


def device_of(model: nn.Module) -> torch.device:
    """Where a model's weights are; the CPU for one without any."""
    weights = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if weights is None else weights.device


def device_named(name: str) -> torch.device:
    """A device by name; "auto" is the fastest that this machine has."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # the device "meta" has no values
    except (RuntimeError, AssertionError, NotImplementedError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"device {name} is not available; choose from auto, cpu, cuda, mps ({reason})"
        ) from None
    return device


def prepare(
    images: Sequence[Image], short_side: int | None, preprocessing: Preprocessing, device: torch.device
) -> tuple[Tensor, Tensor, list[Geometry]]:
    """Images resized and padded to one size: frames [B, 3, H, W] 0..255 and their pad mask [B, H, W]."""
    resized = [
        _resize(
            image,
            preprocessing.resized(image.shape[0], image.shape[1], short_side),
            preprocessing.antialias,
        )
        for image in images
    ]
    sizes = [(frame.shape[1], frame.shape[2]) for frame in resized]
    height, width = preprocessing.around(sizes)
    frames = torch.zeros(len(images), 3, height, width, dtype=torch.uint8)
    pad = torch.ones(len(images), height, width, dtype=torch.bool)
    for b, (frame, (h, w)) in enumerate(zip(resized, sizes, strict=True)):
        frames[b, :, :h, :w] = frame
        pad[b, :h, :w] = False
    geometries = [
        Geometry(image.shape[0], image.shape[1], *size) for image, size in zip(images, sizes, strict=True)
    ]
    return frames.to(device), pad.to(device), geometries


def _resize(image: Image, size: tuple[int, int], antialias: bool) -> Tensor:
    """The image [3, h, w] at this height and width."""
    frame = torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)
    if size == image.shape[:2]:
        return frame
    return F.interpolate(frame[None], size, mode="bilinear", antialias=antialias)[0]


def _numpy(values: Tensor) -> Floats:
    array: Floats = values.float().cpu().numpy()
    return array
