"""What a model sees in images: resize, pad, one forward pass, and the detections worth tracking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ookd.errors import UserError
from ookd.models.preprocess import STRIDE, normalise
from ookd.structures import FrameQueries
from ookd.tracking.config import TrackerConfig
from ookd.tracking.masks import Geometry
from ookd.tracking.select import Detections, Floats, mask_iou, mask_places, select_queries, suppress

Image = NDArray[np.uint8]  # [H, W, 3] RGB
ModelState = dict[str, Tensor] | None  # what a model carries from frame to frame, batch first
LONGEST = 1333  # no resized side is longer, as in the published evaluations


class OnlineModel(Protocol):
    """What tracking asks of a model: from normalised frames [B, 3, H, W] and padding [B, H, W] to queries."""

    def __call__(self, frames: Tensor, pad: Tensor, state: ModelState) -> tuple[FrameQueries, ModelState]: ...


def device_of(model: OnlineModel | nn.Module) -> torch.device:
    """Where a model's weights are; the CPU for one that is not made of torch."""
    if isinstance(model, nn.Module):
        for weights in chain(model.parameters(), model.buffers()):
            return weights.device
    return torch.device("cpu")


@torch.inference_mode()
def observe(
    model: OnlineModel,
    images: Sequence[Image],
    config: TrackerConfig,
    device: torch.device,
    state: ModelState = None,
) -> tuple[list[Detections], list[Geometry], ModelState]:
    """The detections of each image, after score filter, box and mask suppression, from one forward pass."""
    frames, pad, geometries = prepare(images, config.short_side, device)
    queries, state = model(normalise(frames, pad), pad, state)
    probs, embeds = _numpy(queries.logits.sigmoid()), _numpy(queries.embed)
    boxes = None if queries.boxes is None else _numpy(queries.boxes)
    chosen = [
        select_queries(probs[b], None if boxes is None else boxes[b], config) for b in range(len(images))
    ]
    select = np.zeros((len(images), max(map(len, chosen))), np.int64)  # shorter rows end in query 0, unused
    for row, query in zip(select, chosen, strict=True):
        row[: len(query)] = query
    masks = _numpy(queries.masks(torch.from_numpy(select).to(device)))
    stride = frames.shape[-2] // masks.shape[-2]
    geometries = [replace(geometry, stride=stride) for geometry in geometries]
    detections = []
    for b, query in enumerate(chosen):
        kept = suppress(mask_iou(masks[b, : len(query)] > 0), config.mask_nms)
        query = query[kept]
        box = None if boxes is None else boxes[b, query]
        mask = masks[b, kept]
        places = mask_places(mask > 0, stride / geometries[b].resized_height)
        detections.append(Detections(probs[b, query], embeds[b, query], places, query, box, mask))
    return detections, geometries, state


def prepare(
    images: Sequence[Image], short_side: int | None, device: torch.device
) -> tuple[Tensor, Tensor, list[Geometry]]:
    """Frames [B, 3, H, W] 0..255 and pad mask [B, H, W]: images resized, all placed top left in one size."""
    resized = [_resize(image, short_side) for image in images]
    sizes = [(frame.shape[1], frame.shape[2]) for frame in resized]
    height, width = (-(-max(side) // STRIDE) * STRIDE for side in zip(*sizes, strict=True))
    frames = torch.zeros(len(images), 3, height, width, dtype=torch.uint8)
    pad = torch.ones(len(images), height, width, dtype=torch.bool)
    for b, (frame, (h, w)) in enumerate(zip(resized, sizes, strict=True)):
        frames[b, :, :h, :w] = frame
        pad[b, :h, :w] = False
    geometries = [
        Geometry(image.shape[0], image.shape[1], *size) for image, size in zip(images, sizes, strict=True)
    ]
    return frames.to(device), pad.to(device), geometries


def _resize(image: Image, short_side: int | None) -> Tensor:
    """[3, H, W] with the short side as asked, or as it is."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise UserError(f"a frame must be uint8 [height, width, 3] RGB, not {image.dtype} {image.shape}")
    frame = torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)
    height, width = image.shape[:2]
    size = target_size(height, width, short_side)
    if size == (height, width):
        return frame
    return F.interpolate(frame[None], size, mode="bilinear", antialias=True)[0]


def target_size(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """Height and width with the short side as asked, unless the long one would pass `LONGEST`."""
    if short_side is None:
        return height, width
    scale = min(short_side / min(height, width), LONGEST / max(height, width))
    return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)


def _numpy(values: Tensor) -> Floats:
    array: Floats = values.float().cpu().numpy()
    return array
