"""What each configuration costs: parameters, multiply-adds and CPU seconds a frame.

Online models see one frame. Offline ones see a clip, and their numbers are a frame's share of it. Mask2Former
of transformers, with the same backbone and random weights, is there to compare. Multiply-adds are those of
convolutions and matrix products; bilinear sampling is not counted.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from measuring import Table, alternate
from ookd.models.families import presets
from ookd.models.protocols import OfflineModel
from ookd.models.zoo import build
from speed.peers import mask2former

PEER = "mask2former-r50"
KEPT = 10  # queries whose masks are asked for


def options(parser: argparse.ArgumentParser) -> None:
    known = [*presets(), PEER]
    add = parser.add_argument
    add("--models", nargs="+", default=known, choices=known, metavar="MODEL")
    add("--size", nargs=2, type=int, default=(384, 640), metavar=("HEIGHT", "WIDTH"))
    add("--clip", type=int, default=5, help="frames that an offline model sees together")
    add("--dtypes", nargs="+", default=["fp32"], choices=["fp32", "bf16"])
    add("--repeats", type=int, default=3)
    add("--seed", type=int, default=0)


def run(given: argparse.Namespace) -> None:
    columns = {"model": "", "frames": "", "parameters (M)": ".2f", "GMAC a frame": ".2f"}
    for dtype in given.dtypes:
        columns |= dict.fromkeys([f"{dtype} s a frame", f"{dtype} spread", f"{dtype} processor s"], ".2f")
    with Table(given, columns) as table:
        for name in given.models:
            table.add(name, *measure(name, given))


def measure(name: str, given: argparse.Namespace) -> list[Any]:
    torch.manual_seed(given.seed)
    model = (mask2former(40) if name == PEER else build(presets()[name])).eval().requires_grad_(False)
    offline = isinstance(model, OfflineModel)
    length = given.clip if offline else 1
    shape = (1, length) if offline else (1,)
    frames = torch.randn(*shape, 3, *given.size)
    pad = torch.zeros(*shape, *given.size, dtype=torch.bool)

    def infer() -> Any:
        """Down to the masks."""
        if name == PEER:
            return model(pixel_values=frames, pixel_mask=(~pad).long())
        answer = model(frames, pad)
        return (answer if offline else answer[0]).masks(torch.arange(KEPT)[None])

    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    row = [length, parameters, multiply_adds(infer) / length / 1e9]
    for times in alternate(
        {dtype: partial(in_dtype, dtype, infer) for dtype in given.dtypes}, given.repeats
    ).values():
        row += [times.median / length, times.spread / length, statistics.mean(times.processor) / length]
    return row


def in_dtype(dtype: str, infer: Callable[[], Any]) -> None:
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
        infer()


def multiply_adds(infer: Callable[[], Any]) -> float:
    """Attention is spelled out here, or it would not be counted."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        infer()
    return counter.get_total_flops() / 2
