"""J of the first and of the best prediction, on hand-made masks."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ookd.data import rle
from ookd.structures import Rle, Track, TrackResult, Video

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from quality.real_video import overlaps


def columns(first: int, last: int) -> Rle:
    mask: NDArray[np.bool_] = np.zeros((4, 10), bool)
    mask[:, first:last] = True
    return rle.encode(mask)


def test_j_is_the_mean_over_the_frames_that_show_the_object() -> None:
    truth = [columns(0, 4), None, columns(0, 4)]
    track = Track(1, 1, truth, [None] * 3, [None] * 3)
    video = Video(1, 10, 4, ["0", "1", "2"], [track])
    sure = TrackResult(1, 1, 0.9, [columns(0, 2), columns(0, 9), None])
    right = TrackResult(1, 2, 0.2, [columns(0, 4), None, columns(0, 5)])
    first, best = overlaps(video, [right, sure])
    assert first == pytest.approx(100 * (0.5 + 0) / 2)
    assert best == pytest.approx(100 * (1 + 0.8) / 2)
    assert overlaps(video, []) == (0.0, 0.0)
