"""What matching costs at 300 queries and 20 objects a frame, and its share of a training step of IDOL-R50."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch

from measuring import Table, alternate
from ookd.matching import contrast_sets, hungarian, match_frame, match_tubes
from ookd.models.idol.model import Idol, IdolConfig
from ookd.models.idol.training import IdolTraining
from ookd.structures import Batch, Tracks

QUERIES, OBJECTS, CLASSES, FRAMES = 300, 20, 40, 5


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", type=int, nargs=2, default=(360, 640), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)


def run(given: argparse.Namespace) -> None:
    with Table(given, {"what": "", "median ms": ".2f", "slowest ms": ".2f"}) as table:
        times = alternate(matchers(given.device), given.repeats)
        for name, one in times.items():
            table.add(name, 1000 * one.median, 1000 * max(one.clock))
        step = training_step(given.device, *given.size)
        whole = 1000 * alternate({"step": step}, 1)["step"].median
        layers = IdolConfig().decoder_layers
        matching = 1000 * (layers * times["match_frame"].median + times["contrast_sets"].median)
        table.add("IDOL-R50 step, one pair of frames", whole, None)
        table.add(
            f"of it matching, {layers} layers and the reference: {matching / whole:.2%}", matching, None
        )


def boxes(*shape: int, device: str) -> torch.Tensor:
    centre = torch.rand(*shape, 2, device=device) * 0.8 + 0.1
    return torch.cat([centre, torch.rand(*shape, 2, device=device) * 0.3 + 0.02], -1)


def matchers(device: str) -> dict[str, Callable[[], object]]:
    logits = torch.randn(QUERIES, CLASSES, device=device)
    labels = torch.randint(CLASSES, (OBJECTS,), device=device)
    found, truth = boxes(QUERIES, device=device), boxes(OBJECTS, device=device)
    tubes, tracks = boxes(FRAMES, QUERIES, device=device), boxes(OBJECTS, FRAMES, device=device)
    cost = torch.rand(QUERIES, OBJECTS, device=device)
    return {
        "match_frame": lambda: match_frame(logits, found, labels, truth),
        "contrast_sets": lambda: contrast_sets(logits, found, labels, truth),
        f"match_tubes, {FRAMES} frames": lambda: match_tubes(logits, tubes, labels, tracks),
        "hungarian": lambda: hungarian(cost),
    }


def training_step(device: str, height: int, width: int) -> Callable[[], object]:
    """Forward and backward pass of a pair of frames."""
    training = IdolTraining(Idol(IdolConfig(queries=QUERIES))).to(device)
    tall, wide = -(-height // 32) * 32, -(-width // 32) * 32
    tracks = Tracks(
        torch.randint(CLASSES, (OBJECTS,), device=device),
        torch.arange(OBJECTS, device=device),
        boxes(OBJECTS, 2, device=device),
        torch.rand(OBJECTS, 2, tall, wide, device=device) > 0.8,
        torch.ones(OBJECTS, 2, dtype=torch.bool, device=device),
    )
    pad = torch.zeros(1, 2, tall, wide, dtype=torch.bool, device=device)
    pad[:, :, height:], pad[..., width:] = True, True
    frames = torch.randint(256, (1, 2, 3, tall, wide), dtype=torch.uint8, device=device)
    batch = Batch(frames, pad, [tracks])
    return lambda: torch.stack(list(training(batch).values())).sum().backward()
