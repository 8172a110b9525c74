"""Hours and memory that the published recipes would take: an estimate, computed from what a step does.

A model without memory of its own steps once at every frame size of its recipe. That counts the multiply-adds
of convolutions and matrix products, forward and backward, and the bytes that are kept for the gradient. Hours
are operations / (GPUs x peak x the share of the peak that is reached). That share is assumed: no GPU is used.
Reading data and communication between GPUs are not counted. A star marks GPUs that are too small.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from measuring import Table
from ookd import config
from ookd.config import Clips, Recipe
from ookd.engine.layers import recompute
from ookd.models import zoo
from ookd.models.families import preset
from ookd.models.protocols import OfflineModel

MATCHED = 10  # queries of a frame or clip whose masks a decoder layer is trained on
WORKSPACE = 2.0  # GiB of the driver, of kernels, and lost between tensors
BYTES_TRAINED = 16  # of a weight, its gradient and the two moments of AdamW
GIB = 2**30
REACHED = {"fp32": 0.4, "bf16": 0.15}  # share of the peak


@dataclass(frozen=True, slots=True)
class Gpu:
    """From the data sheets, without sparsity."""

    fp32: float  # TFLOPS of plain float32
    bf16: float  # TFLOPS of bfloat16 (V100: float16) matrix products
    memory: int  # GiB


GPUS = {
    "V100": Gpu(15.7, 125, 32),
    "A100": Gpu(19.5, 312, 80),
    "H100": Gpu(67, 989, 80),
    "RTX 4090": Gpu(82.6, 165, 24),
}


def options(parser: argparse.ArgumentParser) -> None:
    published = [name for name in config.bundled() if name.startswith(("idol", "seqformer"))]
    add = parser.add_argument
    add("--recipes", nargs="+", default=published, choices=published, metavar="RECIPE")
    add("--gpus", type=int, default=8)
    add("--precision", choices=["fp32", "bf16"], default="fp32")
    add("--reached", type=float, help=f"share of the peak; if not given: {REACHED}")
    add("--recompute", action="store_true", help="as run.recompute does")


def run(given: argparse.Namespace) -> None:
    given.reached = given.reached or REACHED[given.precision]
    hours = {f"hours, {name}": "" for name in GPUS}
    with Table(given, {"recipe": "", "TMAC a step": ".1f", "GiB a GPU": ".0f", **hours}) as table:
        for name in given.recipes:
            table.add(name, *estimate(config.load(name), given))


def estimate(recipe: Recipe, given: argparse.Namespace) -> list[Any]:
    with torch.device("meta"):
        model = zoo.build(preset(recipe.model.base, **recipe.model.change))
    model.train()
    if given.recompute:
        recompute(model)
    clip = recipe.data.frames
    frames = clip.length if isinstance(clip, Clips) else 2
    sizes = frame_sizes(recipe)
    known = {size: step(model, frames, *size, given.precision) for size in set(sizes)}
    flops, kept = zip(*(known[size] for size in sizes), strict=True)
    share = max(1, recipe.data.batch // given.gpus)  # clips a GPU
    flop = largest_of(share, flops) * recipe.data.batch * recipe.run.steps
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    fixed = 4 * sum(p.numel() for p in model.parameters() if not p.requires_grad) + BYTES_TRAINED * trained
    memory = (fixed + share * kept[-1]) / GIB + WORKSPACE
    hours = {
        name: flop / (given.gpus * getattr(gpu, given.precision) * 1e12 * given.reached) / 3600
        for name, gpu in GPUS.items()
    }
    starred = [f"{hours[name]:.1f}" + " *" * (memory > gpu.memory) for name, gpu in GPUS.items()]
    return [flop / recipe.run.steps / 2e12, memory, *starred]


def step(model: nn.Module, frames: int, height: int, width: int, precision: str) -> tuple[float, float]:
    """Operations and kept bytes of a clip. IDOL sees the frames of a pair one after the other."""
    pixels = torch.zeros(1, frames, 3, height, width, device="meta")
    pad = torch.zeros(1, frames, height, width, dtype=torch.bool, device="meta")
    select = torch.zeros(1, MATCHED, dtype=torch.long, device="meta")
    layers: Any = model.layers
    kept, counter = Kept(model), FlopCounterMode(display=False)
    half = torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16")
    with counter, torch.autograd.graph.saved_tensors_hooks(kept, lambda tensor: tensor):
        with half:
            if isinstance(model, OfflineModel):
                answers = layers(pixels, pad)
            else:
                answers = [one for t in range(frames) for one in layers(pixels[:, t], pad[:, t])]
            parts = [part for one in answers for part in (one.logits, one.boxes, one.masks(select))]
            parts += [one.embed for one in answers if hasattr(one, "embed")]
        torch.stack([part.float().sum() for part in parts]).sum().backward()
    model.zero_grad(set_to_none=True)
    return counter.get_total_flops(), kept.bytes


class Kept:
    """Counts the bytes that autograd keeps, each storage once; weights are not counted."""

    def __init__(self, model: nn.Module) -> None:
        own = [*model.parameters(), *model.buffers()]
        self._known = {tensor.untyped_storage()._cdata for tensor in own}
        self._held: list[Tensor] = []  # so that no address is used twice
        self.bytes = 0

    def __call__(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._known:
            self._known.add(storage._cdata)
            self._held.append(tensor)
            self.bytes += storage.nbytes()
        return tensor


def frame_sizes(recipe: Recipe) -> list[tuple[int, int]]:
    """Frames of 16:9, or 4:3 for COCO, at every short side that the recipe draws from, padded."""
    aspect = 4 / 3 if recipe.name.endswith("coco") else 16 / 9
    augment = recipe.data.augment
    scales = [min(1.0, augment.longest / (side * aspect)) for side in augment.sides]
    return [
        (-(-round(side * scale) // 32) * 32, -(-round(side * aspect * scale) // 32) * 32)
        for side, scale in zip(augment.sides, scales, strict=True)
    ]


def largest_of(count: int, values: tuple[float, ...]) -> float:
    """Mean of the largest of `count` draws from ascending values: a batch is padded to its largest frame."""
    n = len(values)
    return sum(value * (((i + 1) / n) ** count - (i / n) ** count) for i, value in enumerate(values))
