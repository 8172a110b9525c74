"""Depthwise convolution on a CPU in float32 and in bfloat16, forward and backward.

How EfficientNet-Lite treats its depthwise kernels (not trained; float32 at stride 2) rests on these numbers.
The shapes are those of lite0's blocks. "frozen" is a backward pass to the input alone, "trained" one to the
kernel too. The pointwise convolution that follows in the block is there to compare.

    python benchmarks/bf16_depthwise.py --threads 1
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

# channels, kernel, stride, input's share of the frame, channels after the pointwise convolution
SHAPES = [(96, 3, 2, 2, 24), (144, 3, 1, 4, 24), (144, 5, 2, 4, 40), (240, 5, 1, 8, 40), (480, 5, 1, 16, 112)]


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    work()
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        taken.append(1000 * (time.process_time() - start))
    return statistics.median(taken)


def measure(x: Tensor, kernel: Tensor, stride: int, repeats: int) -> list[float]:
    """Forward, backward to the input, backward to input and kernel; as many groups as the kernel needs."""
    settings = {"stride": stride, "padding": kernel.shape[-1] // 2, "groups": x.shape[1] // kernel.shape[1]}
    times = [milliseconds(lambda: F.conv2d(x, kernel, **settings), repeats)]
    for trained in (False, True):
        inputs = [x.clone().requires_grad_(), kernel.clone().requires_grad_(trained)]
        output = F.conv2d(*inputs, **settings)
        backward = partial(
            torch.autograd.grad,
            output,
            inputs[: 1 + trained],
            torch.randn_like(output),
            retain_graph=True,
        )
        times.append(milliseconds(backward, repeats))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, nargs=2, default=(128, 224), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    height, width = given.size
    print(
        f"{platform.machine()}, torch {torch.__version__}, {given.threads} threads, {given.frames} frames of "
        f"{height} x {width}, channels_last, processor ms, median of {given.repeats}, "
        f"load {os.getloadavg()[0]:.1f}\n"
    )
    print("| convolution | type | forward | backward, frozen | backward, trained |")
    print("|---|---|---|---|---|")
    for channels, side, stride, share, after in SHAPES:
        h, w = height // share, width // share
        layers = {
            f"{side}x{side} depthwise, stride {stride}, {channels} channels": (
                torch.randn(given.frames, channels, h, w),
                torch.randn(channels, 1, side, side),
                stride,
            ),
            f"1x1 after it, to {after}": (
                torch.randn(given.frames, channels, h // stride, w // stride),
                torch.randn(after, channels, 1, 1),
                1,
            ),
        }
        for name, (x, kernel, step) in layers.items():
            for dtype in (torch.float32, torch.bfloat16):
                inputs = x.to(dtype, memory_format=torch.channels_last)
                times = measure(inputs, kernel.to(dtype), step, given.repeats)
                cells = " | ".join(f"{ms:.1f}" for ms in times)
                print(f"| {name} | {str(dtype).removeprefix('torch.')} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
