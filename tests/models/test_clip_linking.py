"""Clip linking against a plain version that keeps everything, and against cases done by hand."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from models.published import assert_close
from ookd.models.seqformer.clip_linking import ClipLinker, soft_iou


class Everything:
    """The same rule with all clips in dense arrays: track x clip x frame."""

    def __init__(self, length: int, threshold: float, frames: int) -> None:
        self.length, self.threshold, self.frames = length, threshold, frames
        self.clips: list[dict[int, tuple[int, Tensor, Tensor]]] = []  # track -> start, probs, logits
        self.tracks = 0

    def add(self, start: int, probs: Tensor, logits: Tensor) -> None:
        agreement = torch.zeros(self.tracks, len(logits))
        for track in range(self.tracks):
            for new in range(len(logits)):
                values = []
                for clip in self.clips[-self.length :]:
                    if track not in clip:
                        continue
                    old_start, _, old = clip[track]
                    common = range(max(start, old_start), min(start, old_start) + old.shape[0])
                    if len(common):
                        a = torch.stack([old[t - old_start].sigmoid() for t in common])
                        b = torch.stack([logits[new, t - start].sigmoid() for t in common])
                        values.append((a * b).sum() / ((a + b - a * b).sum() + 1e-6))
                if values:
                    agreement[track, new] = torch.stack(values).sum() / (len(values) + 1e-6)
        agreement[agreement <= self.threshold] = 0
        clip = {}
        taken = set()
        for row, column in zip(*linear_sum_assignment(agreement, maximize=True), strict=True):
            if agreement[row, column] > 0:
                clip[int(row)] = (start, probs[column], logits[column])
                taken.add(column)
        for new in range(len(logits)):
            if new not in taken:
                clip[self.tracks] = (start, probs[new], logits[new])
                self.tracks += 1
        self.clips.append(clip)

    def mask(self, track: int, frame: int) -> Tensor | None:
        said = [
            logits[frame - start]
            for clip in self.clips
            for start, _, logits in [clip.get(track, (0, None, torch.empty(0)))]
            if start <= frame < start + len(logits)
        ]
        return torch.stack(said).mean(0) if said else None


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 4), st.integers(1, 5))
def test_equals_the_plain_version(seed: int, length: int, stride: int, objects: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    frames, threshold = length + stride * 5, 0.2
    ours, plain = ClipLinker(length, threshold), Everything(length, threshold, frames)
    truth = torch.randn(objects, frames, 4, 5, generator=generator) * 4
    given: dict[int, dict[int, Tensor]] = {}
    for start in range(0, frames - length + 1, stride):
        order = torch.randperm(objects, generator=generator)
        noise = torch.randn(objects, length, 4, 5, generator=generator)
        logits = truth[order, start : start + length] + noise
        probs = torch.rand(objects, 3, generator=generator)
        ours.add(start, probs, logits)
        plain.add(start, probs, logits)
        for frame in ours.finished(before=start + 1):
            given[frame.index] = dict(zip(frame.ids, frame.logits, strict=True))
    for frame in ours.finished():
        given[frame.index] = dict(zip(frame.ids, frame.logits, strict=True))
    assert len(ours.probs) == plain.tracks
    for track in range(plain.tracks):
        said = [clip[track][1] for clip in plain.clips if track in clip]
        assert_close(torch.stack(ours.probs[track]), torch.stack(said))
        for frame in range(frames):
            expected = plain.mask(track, frame)
            assert (track in given.get(frame, {})) == (expected is not None)
            if expected is not None:
                assert_close(given[frame][track], expected)


def test_soft_iou_by_hand() -> None:
    one = torch.tensor([1.0, 0.5, 0.0, 0.0]).view(1, 1, 2, 2)
    other = torch.tensor([1.0, 0.0, 1.0, 0.0]).view(1, 1, 2, 2)
    # products 1; unions 1 + 0.5 + 1
    assert_close(soft_iou(one, other), torch.tensor([[1 / 2.5]]))
    assert_close(soft_iou(one, torch.zeros(2, 1, 2, 2)), torch.zeros(1, 2))


def test_a_track_that_no_recent_clip_knows_is_not_found_again() -> None:
    linker = ClipLinker(length=1, threshold=0.01)
    here, there = torch.full((1, 2, 1, 2), -9.0), torch.full((1, 2, 1, 2), -9.0)
    here[..., 0], there[..., 1] = 9, 9
    probs = torch.ones(1, 1)
    for start, logits in enumerate((here, there, here)):
        linker.add(start, probs, logits)
    assert [clip.ids for clip in linker.recent] == [[2]]
