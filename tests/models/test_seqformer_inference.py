"""Whole videos through SeqFormer against the reference results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import golden_cases
from models import published
from ookd.data import rle
from ookd.masks import Geometry
from ookd.models.backbones.resnet import ResNetConfig
from ookd.models.seqformer import inference as seqformer_inference
from ookd.models.seqformer.inference import VideoTracks, clip_by_clip, whole_video
from ookd.models.seqformer.model import FrameMemory, SeqFormer, SeqFormerConfig

CATEGORIES = [10, 20, 30, 40, 50]


def check(case: Path, tracks: VideoTracks) -> None:
    g = np.load(case)
    results = tracks.results(video_id=7, category_ids=CATEGORIES)
    assert [result.category_id for result in results] == [CATEGORIES[label] for label in g["labels"]]
    np.testing.assert_allclose([result.score for result in results], g["scores"], atol=2e-5)
    width = g["masks_shape"][-1]
    expected = np.unpackbits(g["masks_packed"], axis=-1)[..., :width].astype(bool)
    actual = np.stack([rle.decode_many(result.segmentations) for result in results])
    assert (actual != expected).mean() < 1e-5  # logits that rounding moves over 0


def frames_of(case: Path) -> tuple[torch.Tensor, Geometry]:
    g = np.load(case)
    height, width = (int(size) for size in g["masks_shape"][-2:])
    frames = torch.from_numpy(g["frames"])
    return frames, Geometry(height, width, *frames.shape[-2:])


@pytest.mark.parametrize("case", golden_cases("seqformer_whole_video*.npz"), ids=lambda case: case.stem)
def test_whole_video(case: Path) -> None:
    check(case, whole_video(published.seqformer(case.parent), *frames_of(case)))


@pytest.mark.parametrize("case", golden_cases("seqformer_clip_matching*.npz"), ids=lambda case: case.stem)
def test_clip_by_clip(case: Path) -> None:
    g = np.load(case)
    model = published.seqformer(case.parent)
    check(case, clip_by_clip(model, *frames_of(case), int(g["clip_length"]), int(g["clip_stride"])))


@pytest.fixture(scope="module")
def model() -> SeqFormer:
    torch.manual_seed(0)
    config = SeqFormerConfig(
        backbone=ResNetConfig(width=4),
        classes=3,
        queries=7,  # fewer than are looked at
        dim=64,
        encoder_layers=1,
        decoder_layers=2,
        ffn=8,
    )
    model = SeqFormer(config).eval()
    for head in model.class_heads:
        torch.nn.init.normal_(head.bias)
    return model


def video(length: int) -> tuple[list[torch.Tensor], Geometry]:
    generator = torch.Generator().manual_seed(length)
    frames = torch.randint(0, 256, (length, 3, 37, 50), dtype=torch.uint8, generator=generator)
    return list(frames), Geometry(74, 100, 37, 50)


def same(one: VideoTracks, other: VideoTracks) -> bool:
    return np.allclose(one.probs, other.probs, atol=1e-5) and one.masks == other.masks


def test_one_clip_as_long_as_the_video_is_the_whole_video(model: SeqFormer) -> None:
    assert same(clip_by_clip(model, *video(4), length=4), whole_video(model, *video(4)))
    assert same(clip_by_clip(model, *video(3), length=5), whole_video(model, *video(3)))
    assert same(clip_by_clip(model, *video(1)), whole_video(model, *video(1)))


def test_frames_encoded_together_or_alone_give_the_same(
    model: SeqFormer, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = whole_video(model, *video(5))
    monkeypatch.setattr(seqformer_inference, "ENCODED_TOGETHER", 2)
    np.testing.assert_allclose(whole_video(model, *video(5)).probs, together.probs, atol=1e-5)


@pytest.mark.parametrize(
    ("length", "stride", "starts"),
    [(9, 1, [0, 1, 2, 3, 4, 5]), (9, 3, [0, 3, 5]), (8, 4, [0, 4]), (3, 2, [0]), (16, 7, [0, 7, 12])],
)
def test_clips_cover_the_video_and_the_last_ends_with_it(
    model: SeqFormer, length: int, stride: int, starts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    linker = seqformer_inference.ClipLinker
    seen: list[tuple[int, int]] = []

    def add(self, start: int, probs: torch.Tensor, logits: torch.Tensor) -> None:
        seen.append((start, logits.shape[1]))
        original(self, start, probs, logits)

    original = linker.add
    monkeypatch.setattr(linker, "add", add)
    tracks = clip_by_clip(model, *video(length), length=4, stride=stride)
    assert [start for start, _ in seen] == starts
    assert {frames for _, frames in seen} == {min(4, length)}
    assert {len(masks) for masks in tracks.masks} == {length}
    covered = {start + t for start, frames in seen for t in range(frames)}
    shown = {t for masks in tracks.masks for t, mask in enumerate(masks) if rle.area(mask)}
    assert shown <= covered
    assert {min(covered), max(covered)} <= shown


def test_memory_does_not_grow_with_the_video(model: SeqFormer, monkeypatch: pytest.MonkeyPatch) -> None:
    """No decoder input is ever longer than a clip, and no more frames than that wait for their masks."""
    longest, waiting = [], []
    linker = seqformer_inference.ClipLinker

    def finished(self, before=None):
        waiting.append(len(self.frames))
        return original(self, before)

    original = linker.finished
    monkeypatch.setattr(linker, "finished", finished)
    join = FrameMemory.join
    monkeypatch.setattr(
        FrameMemory, "join", staticmethod(lambda parts: longest.append(len(parts)) or join(parts))
    )
    clip_by_clip(model, *video(12), length=3)
    assert max(longest) == 3
    assert max(waiting) == 3
