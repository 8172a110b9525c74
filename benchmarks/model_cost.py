"""What each configuration costs: parameters, multiply-adds and CPU seconds a frame.

Online models see one frame; offline ones a clip, and their numbers are a frame's share of it. Mask2Former of
transformers, with the same backbone and random weights, is the yardstick. Multiply-adds are those of
convolutions and matrix products; bilinear sampling is not counted.

    python benchmarks/model_cost.py --repeats 3
    python benchmarks/model_cost.py --models idol-r50 mask2former-r50 --threads 2
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ookd.models.families import family_named, presets
from ookd.models.zoo import build

YARDSTICK = "mask2former-r50"
KEPT = 10  # queries whose masks are asked for


def mask2former() -> nn.Module:
    """Six encoder and nine decoder layers over a ResNet-50, as published."""
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, ResNetConfig

    stages = ["stage1", "stage2", "stage3", "stage4"]
    return Mask2FormerForUniversalSegmentation(
        Mask2FormerConfig(backbone_config=ResNetConfig(out_features=stages), num_labels=40)
    )


def make(name: str) -> nn.Module:
    model = mask2former() if name == YARDSTICK else build(presets()[name])
    return model.eval().requires_grad_(False)


def sees_clips(name: str) -> bool:
    return name != YARDSTICK and family_named(presets()[name].family).sees == "clips"


def inference(name: str, model: nn.Module, height: int, width: int, length: int) -> Callable[[], Any]:
    """One inference, down to the masks."""
    shape = (1, length) if sees_clips(name) else (1,)
    frames = torch.randn(*shape, 3, height, width)
    pad = torch.zeros(*shape, height, width, dtype=torch.bool)
    select = torch.arange(KEPT)[None]

    def run() -> Any:
        if name == YARDSTICK:
            return model(pixel_values=frames, pixel_mask=(~pad).long())
        answer = model(frames, pad)
        return (answer if sees_clips(name) else answer[0]).masks(select)

    return run


def multiply_adds(run: Callable[[], Any]) -> float:
    """Attention is spelled out here, or it would not be counted."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        run()
    return counter.get_total_flops() / 2


def seconds(run: Callable[[], Any], repeats: int) -> tuple[list[float], float]:
    """Wall time of each run, and processor time a run, which a busy machine disturbs less."""
    taken, start = [], time.process_time()
    with torch.inference_mode():
        for _ in range(repeats):
            begin = time.perf_counter()
            run()
            taken.append(time.perf_counter() - begin)
    return taken, (time.process_time() - start) / repeats


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    height, width = args.size
    length = args.clip if sees_clips(name) else 1
    torch.manual_seed(0)
    model = make(name)
    run = inference(name, model, height, width, length)
    row: dict[str, Any] = {
        "model": name,
        "frames": length,
        "parameters_m": sum(p.numel() for p in model.parameters()) / 1e6,
        "gmac_a_frame": multiply_adds(run) / length / 1e9,
    }
    for dtype in args.dtypes:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
            seconds(run, 1)  # to warm up
            taken, busy = seconds(run, args.repeats)
        row[f"{dtype}_s"] = statistics.median(taken) / length
        row[f"{dtype}_spread"] = (max(taken) - min(taken)) / length
        row[f"{dtype}_cpu_s"] = busy / length
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    names = [*presets(), YARDSTICK]
    parser.add_argument("--models", nargs="+", default=names, choices=names)
    parser.add_argument("--size", nargs=2, type=int, default=(384, 640), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--clip", type=int, default=5, help="frames that an offline model sees together")
    parser.add_argument("--dtypes", nargs="+", default=["fp32"], choices=["fp32", "bf16"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = [measure(name, args) for name in args.models]
    if args.json:
        print(json.dumps(rows))
        return
    height, width = args.size
    print(
        f"{height} x {width}, {args.threads} threads, {platform.machine()}, torch {torch.__version__}, "
        f"median of {args.repeats} (spread: largest - smallest), load {os.getloadavg()[0]:.1f}\n"
    )
    times = " | ".join(f"{dtype} s a frame | spread | processor s" for dtype in args.dtypes)
    print(f"| model | frames | parameters (M) | GMAC a frame | {times} |")
    print("|---|---|---|---|" + "---|---|---|" * len(args.dtypes))
    for row in rows:
        cells = [f"{row[f'{d}_{what}']:.2f}" for d in args.dtypes for what in ("s", "spread", "cpu_s")]
        print(
            f"| {row['model']} | {row['frames']} | {row['parameters_m']:.2f} | {row['gmac_a_frame']:.2f} | "
            + " | ".join(cells)
            + " |"
        )


if __name__ == "__main__":
    main()
