"""Masks of the original frame, against the published way of making them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ookd.masks import Geometry, full_size


def published(logits: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Bilinear x4, sigmoid, crop, nearest to the original size, > 0.5."""
    up = F.interpolate(torch.tensor(logits)[None], scale_factor=4, mode="bilinear", align_corners=False)
    crop = up.sigmoid()[..., : geometry.resized_height, : geometry.resized_width]
    return (F.interpolate(crop, (geometry.height, geometry.width), mode="nearest")[0] > 0.5).numpy()


@pytest.mark.parametrize(
    "geometry",
    [
        Geometry(96, 128, 96, 128),  # as it is
        Geometry(90, 120, 90, 120),  # padded
        Geometry(720, 1280, 480, 853),  # shrunk for the model
        Geometry(135, 180, 90, 120),
        Geometry(37, 53, 480, 688),  # enlarged
        Geometry(1, 1, 32, 32),
    ],
    ids=str,
)
def test_the_published_masks(geometry: Geometry) -> None:
    rng = np.random.default_rng(geometry.height)
    h, w = (-(-side // 32) * 8 for side in (geometry.resized_height, geometry.resized_width))
    coarse = torch.tensor(rng.normal(-0.3, 1, (1, 6, 4, 5)).astype(np.float32))
    logits = F.interpolate(coarse, (h, w), mode="bicubic")[0].numpy()
    logits[0] = -1  # nothing
    logits[1] = 1  # everything
    logits[2] = rng.normal(0, 1, (h, w))  # noise
    masks, boxes = full_size(logits, geometry)
    wanted = published(logits, geometry)
    np.testing.assert_array_equal(masks, wanted)
    for mask, box in zip(wanted, boxes, strict=True):
        y, x = np.nonzero(mask)
        tight = [x.min(), y.min(), x.max() + 1, y.max() + 1] if len(y) else [0, 0, 0, 0]
        assert box.tolist() == tight


def test_no_objects() -> None:
    masks, boxes = full_size(np.zeros((0, 24, 32), np.float32), Geometry(96, 128, 96, 128))
    assert masks.shape == (0, 96, 128)
    assert boxes.shape == (0, 4)


@pytest.mark.parametrize("place", [(slice(0, 4), slice(7, 8)), (slice(5, 6), slice(0, 4)), (slice(5, 6), 7)])
def test_a_mask_in_the_padding_alone_is_empty(place: tuple[slice, slice]) -> None:
    logits = np.full((2, 6, 8), -5, np.float32)
    logits[0][place] = 5
    logits[1, 1:3, 1:3] = 5
    masks, boxes = full_size(logits, Geometry(20, 26, 20, 26))  # cells 5 and 7 show nothing of it
    assert not masks[0].any()
    assert not boxes[0].any()
    assert masks[1].any()
