"""VidEoMT learns on clips: one query an object, and gradients through time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch.nn import functional as F
from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from models.tiny_videomt import TINY
from ookd import config
from ookd.config import Recipe
from ookd.engine.run import run
from ookd.errors import UserError
from ookd.models import zoo
from ookd.models.videomt.model import Videomt, VideomtConfig
from ookd.models.videomt.pretrained import resized_kernel
from ookd.models.videomt.training import (
    VideomtTraining,
    match_clip,
    point_cost,
    sampled,
    unsure_points,
)
from ookd.structures import Batch, Tracks

CLASSES, FRAMES = 5, 4


def model(**changes: object) -> Videomt:
    torch.manual_seed(0)
    return Videomt(
        VideomtConfig.model_validate({**TINY, "classes": CLASSES, "train_num_points": 64, **changes})
    )


def tracks(late: bool = False) -> Tracks:
    """Three squares that move; the last one may enter in the third frame only."""
    masks = torch.zeros(3, FRAMES, 64, 96, dtype=torch.bool)
    for n in range(3):
        for t in range(2 if late and n == 2 else 0, FRAMES):
            y, x = 4 + 18 * n + t, 5 + 20 * n + 3 * t
            masks[n, t, y : y + 16, x : x + 20] = True
    visible = masks.flatten(2).any(-1)
    return Tracks(torch.tensor([0, 3, 1]), torch.arange(3), torch.zeros(3, FRAMES, 4), masks, visible)


def batch(clips: int = 2) -> Batch:
    frames = torch.randint(0, 255, (clips, FRAMES, 3, 64, 96), generator=torch.Generator().manual_seed(0))
    found = [tracks(late=True), tracks()][:clips]
    for b, clip in enumerate(found):
        for n in range(3):
            colour = torch.tensor([200, 30, 90]).roll(n)[:, None]
            for t in range(FRAMES):
                frames[b, t][:, clip.masks[n, t]] = colour
    pad = torch.zeros(clips, FRAMES, 64, 96, dtype=torch.bool)
    return Batch(frames.to(torch.uint8), pad, found, seeds=list(range(clips)))


def test_gradients_pass_through_time() -> None:
    network = model()
    task = VideomtTraining(network)
    terms, _ = task.learn(batch())
    assert terms.keys() == task.weights.keys()
    torch.stack([task.weights[name] * value for name, value in terms.items()]).sum().backward()
    assert network.net.query_updater.weight.grad is not None
    assert network.net.query_updater.weight.grad.norm() > 1e-3
    silent = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert silent == []


def test_losses_fall() -> None:
    torch.manual_seed(0)
    network, clips = model(hidden_size=64), batch()
    task = VideomtTraining(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    totals = []
    for _ in range(40):
        terms = task(clips)
        loss = torch.stack([task.weights[name] * value for name, value in terms.items()]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        totals.append(loss.item())
    assert totals[-1] < 0.6 * totals[0]


def test_an_object_keeps_the_query_of_its_first_frame() -> None:
    """Query 4 fits object 2 when it enters, but object 0 has that query already."""
    clip = tracks(late=True)
    points = torch.rand(64, 2, generator=torch.Generator().manual_seed(0))
    truth = sampled(clip.masks.flatten(0, 1), points).unflatten(0, (3, FRAMES))
    logits = torch.zeros(FRAMES, 6, CLASSES + 1)
    shown = torch.full((FRAMES, 6, 64), -6.0)
    shown[0, 4], shown[0, 1] = 12 * truth[0, 0] - 6, 12 * truth[1, 0] - 6
    shown[2, 4], shown[2, 3] = 12 * truth[2, 2] - 6, 2 * truth[2, 2] - 1
    query = match_clip(logits, lambda t: shown[t], clip, truth)
    assert query.tolist() == [4, 1, 3]


def test_what_is_never_seen_or_too_much_has_no_query() -> None:
    clip = tracks()
    clip.visible[1] = False
    truth = torch.zeros(3, FRAMES, 8)
    logits, masks = torch.zeros(FRAMES, 1, CLASSES + 1), torch.zeros(1, 8)
    assert sorted(match_clip(logits, lambda t: masks, clip, truth).tolist()) == [-1, -1, 0]


def test_matches_are_those_of_the_library_in_the_first_frame() -> None:
    """The cost of `transformers`, which matches each frame on its own, at points of its own drawing."""
    network, clips = model(), batch(1)
    truth, labels = clips.tracks[0].masks[:, 0].float(), clips.tracks[0].labels
    with torch.no_grad():
        pixels = VideomtTraining(network).normalise(clips.frames[:, 0], clips.pad[:, 0])
        answer, _ = network(pixels, clips.pad[:, 0])
        masks = answer.masks(torch.arange(10)[None])
        torch.manual_seed(3)
        matcher = network.net.criterion.matcher
        matcher.num_points = 4096
        ((query, instance),) = matcher(masks, answer.logits, [truth], [labels])
    torch.manual_seed(3)
    points = torch.rand(1, 4096, 2)
    cost = point_cost(sampled(masks[0], points), sampled(truth, points))
    cost = cost - 2 * answer.logits[0].softmax(-1)[:, labels]
    mine = linear_sum_assignment(cost.numpy())
    assert np.array_equal(mine, np.array([query, instance]))


def test_mask_terms_are_those_of_the_library() -> None:
    criterion = model().net.criterion
    random = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 4, 16, 24, generator=random)
    truth = torch.rand(2, 3, 64, 96, generator=random) > 0.7
    pairs = [(torch.tensor([2, 0, 1]), torch.tensor([0, 1, 2]))] * 2
    criterion.num_points = 50
    torch.manual_seed(5)
    expected = criterion.loss_masks(logits, list(truth.float()), pairs, 6)
    torch.manual_seed(5)
    points = torch.cat([torch.rand(6, 150, 2), torch.rand(6, 13, 2)], 1)
    chosen = logits[:, [2, 0, 1]].flatten(0, 1)
    places = unsure_points(chosen, points, 50)
    at, true_at = sampled(chosen, places), sampled(truth.flatten(0, 1), places)
    entropy = F.binary_cross_entropy_with_logits(at, true_at, reduction="none").mean(1).sum() / 6
    assert entropy == pytest.approx(expected["loss_mask"].item(), rel=1e-5)


def test_an_empty_clip_has_only_class_terms() -> None:
    clips = batch(1)
    clips.tracks = [
        Tracks(
            torch.zeros(0, dtype=torch.long),
            torch.zeros(0, dtype=torch.long),
            torch.zeros(0, FRAMES, 4),
            torch.zeros(0, FRAMES, 64, 96, dtype=torch.bool),
            torch.zeros(0, FRAMES, dtype=torch.bool),
        )
    ]
    terms, matches = VideomtTraining(model()).learn(clips)
    assert terms["class"] > 0
    assert terms["mask"] == terms["dice"] == 0
    assert not matches.valid.any()


def test_matches_for_a_teacher_are_the_same_query_in_all_frames() -> None:
    clips = batch()
    _, matches = VideomtTraining(model()).learn(clips)
    query = matches.query.unflatten(0, (2, FRAMES))
    assert (query == query[:, :1]).all()
    seen = torch.stack([clip.visible.T for clip in clips.tracks]).flatten(0, 1)
    assert torch.equal(matches.valid, seen)
    assert matches.answer.logits.shape == (2 * FRAMES, 10, CLASSES + 1)


def recipe(*changes: str) -> Recipe:
    world = "{kind: world, preset: ytvis-like, videos: 4, change: {height: 64, width: 96, frames: 6}}"
    small = {**TINY, "train_num_points": 64}
    return config.load(
        "videomt-tiny",
        [
            f"data.train=[{world}]",
            "data.val=null",
            "data.batch=1",
            "data.workers=0",
            "data.augment.sides=[]",
            f"model.change={json.dumps(small)}",
            "run.precision=fp32",
            "run.threads=1",
            "run.log_every=1",
            "run.save_every=2",
            *changes,
        ],
    )


def test_a_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    for folder in (tmp_path / "whole", tmp_path / "resumed"):
        run(recipe("run.steps=4"), folder, cpu=True)
    whole = zoo.load(tmp_path / "whole").model.state_dict()
    shutil.rmtree(tmp_path / "resumed" / "checkpoints" / "step-00000004")
    shutil.rmtree(tmp_path / "resumed" / "model")
    run(recipe("run.steps=4"), tmp_path / "resumed", cpu=True)
    resumed = zoo.load(tmp_path / "resumed").model.state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def dinov2(folder: Path) -> Dinov2WithRegistersModel:
    torch.manual_seed(1)
    body = Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(
            hidden_size=32, num_hidden_layers=4, num_attention_heads=2, image_size=64, patch_size=16
        )
    ).eval()
    with torch.no_grad():
        body.embeddings.position_embeddings.normal_()
    body.save_pretrained(folder)
    return body


@torch.no_grad()
def test_a_dinov2_is_the_start(tmp_path: Path) -> None:
    """The layers that see no queries give what they give in the DINOv2."""
    body, network = dinov2(tmp_path), model(backbone=str(tmp_path), layer_norm_eps=1e-6)
    network.load_pretrained()
    frames = torch.randn(1, 3, 64, 64)
    expected = body(frames, output_hidden_states=True).hidden_states[2]
    assert torch.allclose(network.eval().encode(frames), expected, atol=1e-5)


def test_a_kernel_for_larger_patches_sees_the_same() -> None:
    kernel, patch = torch.randn(4, 3, 14, 14), torch.randn(1, 3, 14, 14)
    larger = F.interpolate(patch, (16, 16), mode="bicubic", antialias=True, align_corners=False)
    seen = F.conv2d(larger, resized_kernel(kernel, 16))
    assert torch.allclose(seen, F.conv2d(patch, kernel), atol=1e-3)


def test_what_is_no_backbone_is_one_line(tmp_path: Path) -> None:
    network = model(backbone=str(tmp_path))
    with pytest.raises(UserError, match="No such file"):
        network.load_pretrained()
    zoo.write_folder(tmp_path, {"classifier.weight": torch.ones(1)}, {}, overwrite=False)
    with pytest.raises(UserError, match=r"classifier\.weight is not part of a DINOv2 with registers"):
        network.load_pretrained()
    dinov2(tmp_path)
    with pytest.raises(UserError, match=r"backbone .*: embeddings\.\w+ does not fit"):
        model(backbone=str(tmp_path), hidden_size=64).load_pretrained()
