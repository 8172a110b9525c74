"""What matching costs, at 300 queries and 20 objects a frame, and its share of a training step of IDOL-R50.

    python benchmarks/matcher_speed.py [--device cuda] [--size 360 640]

Prints the table that docs/training-losses.md quotes.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch

from ookd.matching import contrast_sets, hungarian, match_frame, match_tubes
from ookd.models.idol.model import Idol, IdolConfig
from ookd.models.idol.training import IdolTraining
from ookd.structures import Batch, Tracks

QUERIES, OBJECTS, CLASSES, FRAMES = 300, 20, 40, 5


def seconds(work: Callable[[], object], device: str) -> float:
    """Wall time of one call, the device's queue emptied."""
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


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
    """One forward and backward pass of IDOL-R50 on a pair of frames."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", type=int, nargs=2, default=(360, 640), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()
    torch.manual_seed(0)
    machine = torch.cuda.get_device_name() if options.device == "cuda" else platform.processor() or "CPU"
    print(f"{machine}, {torch.get_num_threads()} threads, {QUERIES} queries, {OBJECTS} objects\n")
    print("| what | median ms | slowest ms |\n|---|---|---|")
    median = {}
    for name, work in matchers(options.device).items():
        work()
        times = [1000 * seconds(work, options.device) for _ in range(options.rounds)]
        median[name] = statistics.median(times)
        print(f"| {name} | {median[name]:.2f} | {max(times):.2f} |")
    step = training_step(options.device, *options.size)
    step()
    whole = 1000 * seconds(step, options.device)
    matching = IdolConfig().decoder_layers * median["match_frame"] + median["contrast_sets"]
    height, width = options.size
    print(f"| IDOL-R50 step, one pair at {height}x{width} | {whole:.0f} | |")
    print(f"| of it matching, 6 layers and the reference: {matching / whole:.2%} | {matching:.1f} | |")


if __name__ == "__main__":
    main()
