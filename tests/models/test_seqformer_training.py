"""SeqFormer's training step against the released program's, and at the edges of what data can be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import ookd.models.seqformer.training
from conftest import golden_cases
from models import published
from ookd.models.backbones.resnet import ResNetConfig
from ookd.models.parts.detection_losses import WEIGHTS
from ookd.models.seqformer.model import SeqFormer, SeqFormerConfig
from ookd.models.seqformer.training import SeqFormerTraining
from ookd.models.upstream import to_upstream
from ookd.structures import Batch, Tracks

UPSTREAM_TERMS = {"ce": "class", "bbox": "box", "giou": "giou", "mask": "mask", "dice": "dice"}


def our_name(upstream: str) -> str:
    """loss_bbox_0 -> box_0"""
    if upstream == "class_error":
        return upstream
    term, *layer = upstream.removeprefix("loss_").split("_")
    return "_".join([UPSTREAM_TERMS[term], *layer])


def golden_model(golden: Path) -> SeqFormer:
    return published.seqformer(golden).train()


def golden_batch(values: dict[str, Tensor]) -> Batch:
    clips = [values[f"v{v}.images_raw"] for v in range(sum(name.endswith("images_raw") for name in values))]
    height, width = (max(-(-clip.shape[axis] // 32) * 32 for clip in clips) for axis in (2, 3))
    frames = torch.zeros(len(clips), len(clips[0]), 3, height, width, dtype=torch.uint8)
    pad = torch.ones(len(clips), len(clips[0]), height, width, dtype=torch.bool)
    tracks = []
    for v, clip in enumerate(clips):
        h, w = clip.shape[2:]
        frames[v, :, :, :h, :w], pad[v, :, :h, :w] = clip.to(torch.uint8), False
        labels = values[f"v{v}.target_labels"]
        boxes = values[f"v{v}.target_boxes"].reshape(len(labels), len(clip), 4)
        masks = torch.zeros(len(labels), len(clip), height, width, dtype=torch.bool)
        masks[..., :h, :w] = values[f"v{v}.masks"].reshape(len(labels), len(clip), h, w)
        tracks.append(Tracks(labels, torch.arange(len(labels)), boxes, masks, masks.any(-1).any(-1)))
    return Batch(frames, pad, tracks)


def total(training: SeqFormerTraining, terms: dict[str, Tensor]) -> Tensor:
    return torch.stack([weight * terms[name] for name, weight in training.weights.items()]).sum()


@pytest.mark.parametrize("case", golden_cases("seqformer_train_*.json"), ids=lambda path: path.stem)
def test_step_equals_the_released_program(case: Path, golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, values = json.loads(case.read_text()), load_file(case.with_suffix(".safetensors"))
    batch, training = golden_batch(values), SeqFormerTraining(golden_model(golden))
    matched = []
    real = ookd.models.seqformer.training.clip_matches
    monkeypatch.setattr(
        ookd.models.seqformer.training,
        "clip_matches",
        lambda *args: matched.append(real(*args)) or matched[-1],
    )
    terms = training(batch)

    assert set(terms) == {our_name(name) for name in expected["losses_unweighted"]}
    for name, value in expected["losses_unweighted"].items():
        assert terms[our_name(name)].item() == pytest.approx(value, rel=1e-5, abs=1e-7), name
    assert training.weights == {our_name(name): weight for name, weight in expected["weight_dict"].items()}
    for layer, matches in enumerate(matched):
        for video, match in enumerate(matches):
            assert torch.equal(match.query, values[f"match.layer{layer}.b{video}.query"])
            assert torch.equal(match.instance, values[f"match.layer{layer}.b{video}.gt"])

    loss = total(training, terms)
    assert loss.item() == pytest.approx(expected["total"], rel=1e-5)
    loss.backward()
    gradients = to_upstream(
        {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in training.model.named_parameters()}
    )
    for name, value in values.items():
        if name.startswith("grad."):
            error = (gradients[name.removeprefix("grad.")] - value).abs().max()
            assert error <= 2e-2 * value.abs().max(), name
    for name, norm in expected["grad_norms"].items():
        # A bias under a softmax over frames has gradient 0; what is computed for it is rounding.
        zero = 1e-5 if name.endswith("time_attention_weights.bias") else 1e-6  # see above
        assert gradients[name].norm().item() == pytest.approx(norm or 0, rel=5e-3, abs=zero), name


# --- the edges of what data can be -------------------------------------------------------------------------


def small_training(queries: int = 9, seed: int = 0) -> SeqFormerTraining:
    torch.manual_seed(seed)
    config = SeqFormerConfig(
        backbone=ResNetConfig(width=8),
        classes=3,
        queries=queries,
        dim=64,
        heads=4,
        points=2,
        encoder_layers=1,
        decoder_layers=2,
        ffn=32,
    )
    return SeqFormerTraining(SeqFormer(config))


def random_batch(instances: Sequence[int], frames: int = 3, height: int = 64, width: int = 96) -> Batch:
    """Clips with noise for masks; every instance is hidden in some frames, the first one in all."""
    tracks = []
    for count in instances:
        visible = torch.rand(count, frames) > 0.3
        visible[:1] = False
        centre, size = torch.rand(count, frames, 2) * 0.6 + 0.2, torch.rand(count, frames, 2) * 0.3 + 0.05
        masks = (torch.rand(count, frames, height, width) > 0.5) & visible[..., None, None]
        boxes = torch.cat([centre, size], -1) * visible[..., None]
        tracks.append(Tracks(torch.randint(3, (count,)), torch.arange(count), boxes, masks, visible))
    pixels = torch.randint(256, (len(instances), frames, 3, height, width), dtype=torch.uint8)
    return Batch(pixels, torch.zeros(len(instances), frames, height, width, dtype=torch.bool), tracks)


@pytest.mark.parametrize(
    ("instances", "frames"), [((0,), 3), ((0, 2), 3), ((3, 1), 1), ((40,), 2), ((1000,), 1)]
)
def test_any_number_of_objects_and_frames_gives_finite_gradients(
    instances: tuple[int, ...], frames: int
) -> None:
    torch.manual_seed(frames)
    training = small_training()
    terms = training(random_batch(instances, frames))
    assert set(terms) == {*WEIGHTS, *(f"{name}_0" for name in WEIGHTS), "class_error"}
    assert all(torch.isfinite(term) for term in terms.values())
    total(training, terms).backward()
    for name, parameter in training.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name
    if not any(instances):
        assert terms["box"] == terms["giou"] == terms["mask"] == terms["dice"] == 0
        assert terms["class"] > 0


def test_class_error_counts_wrong_answers_only_among_the_matched() -> None:
    training, batch = small_training().eval(), random_batch((2, 2))
    bias = torch.tensor([9.0, 0.0, -9.0])
    for head in training.model.class_heads:
        torch.nn.init.zeros_(head.weight)
        head.bias.data.copy_(bias)
    for clip, labels in zip(batch.tracks, ([0, 1], [0, 0]), strict=True):
        clip.labels = torch.tensor(labels)
    assert training(batch)["class_error"].item() == pytest.approx(25)
