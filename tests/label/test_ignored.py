"""What a labeller was not sure of is neither an object to learn nor background."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from models.borrowed import CLIP
from models.borrowed import tiny as borrowed
from ookd.clips.loader import collate
from ookd.clips.minor_paste import MinorPaste, MinorPasteConfig
from ookd.clips.sources import DatasetClips
from ookd.clips.warps import Crop, Flip, Resize, warp_clip
from ookd.data import rle
from ookd.models import zoo
from ookd.models.backbones.build import ResNetConfig
from ookd.models.families import family_of, preset
from ookd.models.idol.model import IdolConfig
from ookd.models.parts.detection_losses import ClipTargets, boxes_in, over_frames
from ookd.models.parts.frame_targets import lies_in
from ookd.models.protocols import Network
from ookd.models.seqformer.model import SeqFormerConfig
from ookd.structures import Batch, Category, Dataset, Track, Video
from ookd.worlds import World

COMPACT = {"width": 32, "mask_width": 16, "embed": 16, "heads": 4, "hidden": 64, "queries": 12}
DETR = {"queries": 12, "dim": 64, "heads": 4, "encoder_layers": 1, "decoder_layers": 2, "ffn": 32}
VIDEOMT = {
    "hidden_size": 48,
    "num_hidden_layers": 4,
    "num_blocks": 2,
    "num_queries": 8,
    "train_num_points": 64,
}


def model_of(name: str) -> Network:
    torch.manual_seed(0)
    if name in ("idol", "seqformer"):
        config: Any = IdolConfig if name == "idol" else SeqFormerConfig
        return zoo.build(config(classes=5, **DETR, dropout=0.0, backbone=ResNetConfig(width=4)))
    if name.startswith("nano"):
        more = {"slots": 6} if name == "nano-memory" else {"clip_queries": 6} if name == "nano-clip" else {}
        return zoo.build(preset(name, classes=5, **COMPACT, **more))
    if name == "videomt-tiny":
        return zoo.build(preset(name, classes=5, **VIDEOMT))
    return borrowed(name)


NAMES = ["nano", "nano-memory", "nano-clip", "idol", "seqformer", "videomt-tiny"]
BORROWED = ["eomt-small", "mask2former-swin-tiny", "maskformer-swin-tiny", CLIP]


@pytest.mark.parametrize("name", NAMES + BORROWED)
def test_queries_that_find_something_there_are_not_taught_that_it_is_nothing(name: str, batch: Batch) -> None:
    """Everything but the objects is ignored: fewer queries are judged, and objects are learned as before."""
    model = model_of(name)
    family = family_of(model)
    task = family.task(model, dict(family.loss_weights)).eval()

    def terms(ignore: bool | None) -> dict[str, float]:
        def region(masks: torch.Tensor) -> torch.Tensor | None:
            return None if ignore is None else ~masks.any(0) & ignore

        tracks = [replace(one, ignore=region(one.masks)) for one in batch.tracks]
        torch.manual_seed(1)
        random.seed(1)
        with torch.no_grad():
            return {key: float(value) for key, value in task(replace(batch, tracks=tracks)).items()}

    plain, nothing, all_else = terms(None), terms(False), terms(True)
    assert nothing == pytest.approx(plain, rel=1e-5)
    judged = [key for key in plain if "class" in key.split("_") and "error" not in key and "aux" not in key]
    assert all(nothing[key] == plain[key] for key in judged)
    assert any(all_else[key] != plain[key] for key in judged)
    kept = [key for key in plain if "class" not in key and "heat" not in key]
    assert {key: all_else[key] for key in kept} == pytest.approx({key: plain[key] for key in kept}, rel=1e-5)
    heat = [key for key in plain if "heat" in key]
    assert all(all_else[key] < plain[key] for key in heat)


def test_a_mask_lies_where_most_of_it_is() -> None:
    masks = torch.full((1, 3, 4, 4), -1.0)
    masks[0, 0, :, :2] = 1
    masks[0, 1, :, 1:3] = 1
    region = torch.zeros(1, 4, 4)
    region[0, :, :2] = 1
    assert lies_in(masks, region).tolist() == [[True, False, False]]


def test_a_box_lies_where_most_of_it_is_whatever_the_padding() -> None:
    ignore = torch.zeros(1, 64, 128, dtype=torch.bool)
    ignore[:, :, :48] = True
    pad = torch.zeros(1, 64, 128, dtype=torch.bool)
    pad[:, :, 96:] = True
    target = ClipTargets(
        torch.zeros(0), torch.zeros(0, 1, 4), torch.zeros(0, 1, 16, 32), over_frames(ignore, pad)
    )
    boxes = torch.tensor([[[[0.25, 0.5, 0.4, 0.5], [0.75, 0.5, 0.4, 0.5], [0.4, 0.5, 0.6, 0.5]]]])
    assert boxes_in(boxes, [target]).tolist() == [[True, False, True]]


def block(left: int) -> Any:
    mask = np.zeros((32, 48), bool)
    mask[8:24, left : left + 10] = True
    return rle.encode(mask)


def labelled(*tracks: Track) -> Dataset:
    return Dataset([Category(1, "cat")], [Video(1, 48, 32, ["0.png", "1.png"], list(tracks))])


def track(number: int, left: int, scores: list[float], crowd: bool = False) -> Track:
    masks = [block(left), block(left)]
    return Track(
        number,
        1,
        masks,
        [rle.box_xywh(m) for m in masks],
        [160.0] * 2,
        crowd,
        {"score": 0.8, "scores": scores},
    )


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> DatasetClips:
    """One object that is unsure in frame 1, one doubtful track, and a crowd that people drew."""
    drawn = Track(9, 1, [block(34)] * 2, [rle.box_xywh(block(34))] * 2, [160.0] * 2, True)
    data = labelled(track(1, 2, [0.8, 0.3]), track(2, 18, [0.4, 0.4], crowd=True), drawn)
    monkeypatch.setattr(DatasetClips, "_image", lambda *_: np.zeros((32, 48, 3), np.uint8))
    return DatasetClips(data)


def test_unsure_frames_and_doubtful_tracks_are_ignored_and_crowds_are_not(source: DatasetClips) -> None:
    clip = source.clip(0, [0, 1])
    assert clip.ids.tolist() == [1]
    assert [masks[0].any() for masks in clip.masks] == [True, False]
    assert clip.ignore is not None
    assert [set(np.flatnonzero(region.any(0)).tolist()) for region in clip.ignore] == [
        set(range(18, 28)),
        set(range(2, 12)) | set(range(18, 28)),
    ]
    trusting = DatasetClips(source.dataset, sure=0.3).clip(0, [0, 1])
    assert [masks[0].any() for masks in trusting.masks] == [True, True]


def test_the_region_goes_where_the_pixels_go(source: DatasetClips) -> None:
    clip = source.clip(0, [1])
    assert clip.ignore is not None
    steps = [Crop(0, 0, 24, 32), Flip(), Resize(64, 48)]
    warped = warp_clip(clip, [steps])
    assert warped.ignore is not None
    expected = clip.ignore[0][:, :24][:, ::-1].repeat(2, 0).repeat(2, 1)
    assert (warped.ignore[0] == expected).all()
    batch = collate([warped, replace(warped, ignore=None)])
    assert batch.tracks[0].ignore is not None
    assert batch.tracks[0].ignore.shape == (1, 64, 64)
    assert (batch.tracks[0].ignore[0, :, :48].numpy() == expected).all()
    assert batch.tracks[1].ignore is None


def test_pasted_objects_cover_it() -> None:
    world = World("ytvis-like", videos=4, height=64, width=96, frames=4, crowd=[2, 2])
    clip = world.clip(0, [0, 1])
    clip = replace(clip, ignore=[np.ones((64, 96), bool)] * 2)
    pasted = MinorPaste(world, MinorPasteConfig(probability=1.0, most=1))(clip, np.random.default_rng(0))
    assert len(pasted.ids) > len(clip.ids)
    assert pasted.ignore is not None
    for region, masks in zip(pasted.ignore, pasted.masks, strict=True):
        assert not (region & masks[-1]).any()
        assert region.any()
