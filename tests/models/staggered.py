"""Two streams of one model that start at different times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ookd.tracking.session import MultiSession, Session


def check_staggered(
    together: MultiSession, alone: Callable[[], Session], first: Sequence[Any], second: Sequence[Any]
) -> None:
    """Both answer as alone, though the second begins later and ends with the first."""
    late = len(first) - len(second)
    found: list[list[Any]] = [[], []]
    for t in range(len(first)):
        images = [first[t], second[t - late]] if t >= late else [first[t]]
        for stream, result in enumerate(together.step(images, range(len(images)))):
            found[stream].append(result)
    for video, results in zip((first, second), found, strict=True):
        session = alone()
        for image, result in zip(video, results, strict=True):
            expected = session.step(image)
            assert np.array_equal(expected.ids, result.ids)
            assert np.mean(expected.masks != result.masks) < 1e-3
