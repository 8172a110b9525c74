"""Offline prediction over windows: one pass and several give the same tracks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from ookd.config.tracker import OfflineConfig
from ookd.data import rle
from ookd.models.protocols import OfflineModel
from ookd.structures import ClipQueries
from ookd.tracking.offline import track_offline
from toy_family import toy_family

LENGTH = 23


class Colours(OfflineModel):
    """Finds the red square twice and the green one once, in another order in every second window."""

    def __init__(self) -> None:
        super().__init__()
        self.config = COLOURS
        self.calls = 0

    def forward(self, clip: Tensor, pad: Tensor) -> ClipQueries:
        self.calls += 1
        pixels = clip[:, :, :, ::4, ::4]  # [1, T, 3, h, w]
        red, green = (torch.where(pixels[:, :, channel] > 1.0, 5.0, -5.0) for channel in (0, 1))
        tubes = [red, green, red] if self.calls % 2 else [green, red, red]
        probs = torch.tensor([[0.9, 0.1], [0.1, 0.8], [0.5, 0.1]])
        if self.calls % 2 == 0:
            probs = probs[[1, 0, 2]]
        everything = torch.stack(tubes, 1)  # [1, Q, T, h, w]

        def masks(select: Tensor) -> Tensor:
            return everything[:, select[0]]

        nothing = torch.zeros(1, 3, 1)
        return ClipQueries(probs.logit()[None], None, nothing, nothing, masks)


COLOURS = toy_family(Colours, 2)


def images(length: int = LENGTH) -> Iterator[NDArray[np.uint8]]:
    """Red moves right; green is there from frame 9 to 15."""
    for t in range(length):
        image = np.zeros((64, 128, 3), np.uint8)
        image[8:24, 4 * t : 4 * t + 16, 0] = 255
        if 9 <= t <= 15:
            image[40:56, 60:76, 1] = 255
        yield image


@pytest.mark.parametrize(("window", "shared"), [(48, 8), (LENGTH, 4), (10, 4), (8, 3), (5, 4)])
def test_windows_do_not_change_the_tracks(window: int, shared: int) -> None:
    tracks = track_offline(Colours(), images(), OfflineConfig(window=window, shared=shared))
    assert len(tracks) == 2
    red, green = sorted(tracks, key=lambda track: track.probs[1] / track.frames)
    assert [len(track.masks) for track in (red, green)] == [LENGTH, LENGTH]
    for t, image in enumerate(images()):
        mask, square = rle.decode(red.masks[t]), image[..., 0] > 0  # type: ignore[arg-type]
        assert (mask & square).sum() / (mask | square).sum() > 0.9  # upsampling rounds the corners
        assert (green.masks[t] is not None) == (9 <= t <= 15)
    np.testing.assert_allclose(red.probs / red.frames, [0.9, 0.1], atol=1e-5)


def test_a_video_without_frames_has_no_tracks() -> None:
    assert track_offline(Colours(), images(0), OfflineConfig()) == []


def test_an_object_that_leaves_for_longer_than_the_shared_frames_is_a_new_track() -> None:
    def gone() -> Iterator[NDArray[Any]]:
        for t, image in enumerate(images()):
            image[..., 0] = 0 if 6 <= t <= 16 else image[..., 0]
            image[..., 1] = 0
            yield image

    tracks = track_offline(Colours(), gone(), OfflineConfig(window=6, shared=2))
    seen = sorted([t for t, mask in enumerate(track.masks) if mask is not None] for track in tracks)
    assert seen == [list(range(6)), list(range(17, LENGTH))]
