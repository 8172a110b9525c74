"""Which frames of a video make a training clip.

A sampler takes the length of a video and a generator and returns sorted frame numbers, so the key frame of a
pair is always the earlier one. A video with fewer frames than a clip repeats some; an image is a video of one
frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True, slots=True)
class Drawn:
    """Frame numbers of a clip, ascending, and the positions of those that the student sees (empty: all)."""

    frames: tuple[int, ...]
    student: tuple[int, ...] = ()


class FrameSampler(Protocol):
    def draw(self, video_length: int, rng: np.random.Generator) -> Drawn: ...


@dataclass(frozen=True, slots=True)
class ClipSampler:
    """A frame drawn uniformly and `length - 1` others at most `span` frames away from it.

    `replace` draws the others independently of each other, as SeqFormer does: at 5 frames and span 10 about a
    quarter of the clips then hold a frame twice.
    """

    length: int = 5
    span: int = 10
    replace: bool = False

    def draw(self, video_length: int, rng: np.random.Generator) -> Drawn:
        centre = int(rng.integers(video_length))
        around = _neighbours(video_length, centre, centre, self.span, {centre})
        return Drawn(tuple(sorted([centre, *_choose(around, self.length - 1, rng, self.replace, centre)])))


@dataclass(frozen=True, slots=True)
class PairSampler:
    """The key and the reference frame of IDOL: any frame, and another at most `span` frames away."""

    span: int = 10

    def draw(self, video_length: int, rng: np.random.Generator) -> Drawn:
        return ClipSampler(length=2, span=self.span).draw(video_length, rng)


@dataclass(frozen=True, slots=True)
class DistillSampler:
    """A student's pair inside a teacher's long clip.

    The pair is drawn as `PairSampler` does; the teacher's other `length - 2` frames lie at most `span` frames
    before or after the pair, so that it sees views which the student's pair does not show.
    """

    length: int = 8
    span: int = 40
    pair_span: int = 10

    def draw(self, video_length: int, rng: np.random.Generator) -> Drawn:
        key, reference = PairSampler(self.pair_span).draw(video_length, rng).frames
        around = _neighbours(video_length, key, reference, self.span, {key, reference})
        others = _choose(around, self.length - 2, rng, False, key)
        frames = sorted([key, reference, *others])
        first = frames.index(key)
        return Drawn(tuple(frames), (first, frames.index(reference, first + 1)))


def _neighbours(video_length: int, first: int, last: int, span: int, without: set[int]) -> list[int]:
    """Frames of the video from `first - span` to `last + span`."""
    inside = range(max(0, first - span), min(video_length, last + span + 1))
    return [frame for frame in inside if frame not in without]


def _choose(
    frames: list[int], count: int, rng: np.random.Generator, replace: bool, fallback: int
) -> list[int]:
    """`count` of `frames`; if there are too few, all of them and then some again."""
    if not frames:
        return [fallback] * count
    if replace:
        return [int(frame) for frame in rng.choice(frames, count)]
    whole, rest = divmod(count, len(frames))
    return frames * whole + [int(frame) for frame in rng.choice(frames, rest, replace=False)]
