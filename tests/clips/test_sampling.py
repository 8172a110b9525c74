"""Which frames samplers draw: windows, order, distribution."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.stats import chisquare

from ookd.clips.sampling import ClipSampler, DistillSampler, FrameSampler, PairSampler


def draws(sampler: FrameSampler, video_length: int, count: int = 400) -> list[tuple[int, ...]]:
    rng = np.random.default_rng(0)
    return [sampler.draw(video_length, rng).frames for _ in range(count)]


def test_pairs_follow_the_law_of_their_definition() -> None:
    """P(a, b) = (1/n) * (1/|window of a| + 1/|window of b|) for a < b at most 2 apart, over 5 frames."""
    n, span = 5, 2
    window = [sum(1 for other in range(n) if 0 < abs(other - frame) <= span) for frame in range(n)]
    law = {
        (a, b): (1 / window[a] + 1 / window[b]) / n
        for a in range(n)
        for b in range(a + 1, n)
        if b - a <= span
    }
    counts = Counter(draws(PairSampler(span), n, 6000))
    assert set(counts) == set(law)
    assert chisquare([counts[pair] for pair in law], [6000 * p for p in law.values()]).pvalue > 1e-3


def test_clips_are_sorted_distinct_and_within_the_window() -> None:
    for frames in draws(ClipSampler(5, 10), 60):
        assert list(frames) == sorted(set(frames))
        assert frames[-1] - frames[0] <= 20
    assert max(frames[-1] for frames in draws(ClipSampler(5, 10), 60)) == 59


def test_drawing_with_replacement_repeats_as_often_as_expected() -> None:
    """Four of 20 with replacement: 1 - 20*19*18*17/20^4 = 27 % hold a repeat (mid-video frames only)."""
    rng = np.random.default_rng(1)
    sampler = ClipSampler(5, 10, replace=True)
    clips = [sampler.draw(10**6, rng).frames for _ in range(2000)]
    assert np.mean([len(set(frames)) < 5 for frames in clips]) == pytest.approx(0.273, abs=0.03)


@pytest.mark.parametrize(
    "sampler", [PairSampler(), ClipSampler(5), ClipSampler(5, replace=True), DistillSampler(6)]
)
@pytest.mark.parametrize("video_length", [1, 2, 3])
def test_short_videos_repeat_frames(sampler: FrameSampler, video_length: int) -> None:
    length = len(draws(sampler, 100, 1)[0])
    for frames in draws(sampler, video_length, 20):
        assert len(frames) == length
        assert set(frames) <= set(range(video_length))
        if length >= video_length and not getattr(sampler, "replace", False):
            assert set(frames) == set(range(video_length))


def test_the_teachers_clip_contains_the_students_pair_and_reaches_beyond_it() -> None:
    rng = np.random.default_rng(2)
    sampler = DistillSampler(length=8, span=30, pair_span=4)
    reach = 0
    for _ in range(300):
        drawn = sampler.draw(200, rng)
        assert list(drawn.frames) == sorted(set(drawn.frames))
        key, reference = (drawn.frames[place] for place in drawn.student)
        assert 0 < reference - key <= 4
        assert drawn.frames[0] >= key - 30
        assert drawn.frames[-1] <= reference + 30
        reach = max(reach, drawn.frames[-1] - drawn.frames[0])
    assert reach > 40
