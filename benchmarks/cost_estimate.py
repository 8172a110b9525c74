"""Hours and memory that the published recipes would take: an estimate, computed from what a step does.

A model is built without memory of its own and steps once at every frame size of its recipe. That counts the
multiply-adds of convolutions and matrix products, forward and backward, and the bytes that are kept for the
gradient. Hours are operations over GPUs x peak x the share of the peak that is reached, which is assumed: no
GPU is involved. Time for reading data and for talk between GPUs is not counted.

    python benchmarks/cost_estimate.py
    python benchmarks/cost_estimate.py --recipes seqformer-swin-l-ytvis19 --recompute --precision bf16
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ookd import config
from ookd.config import Clips, Recipe
from ookd.engine.layers import recompute
from ookd.models import zoo
from ookd.models.presets import preset
from ookd.models.seqformer.model import SeqFormer

MATCHED = 10  # queries of a frame or clip whose masks a decoder layer is trained on
WORKSPACE = 2.0  # GiB of the driver, of kernels and of what freed memory is lost between tensors
BYTES_TRAINED = 16  # of a weight, its gradient and the two moments of AdamW
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Gpu:
    """From the data sheets, without sparsity."""

    name: str
    fp32: float  # TFLOPS of plain float32
    half: float  # TFLOPS of float16 or bfloat16 matrix products
    memory: int  # GiB


GPUS = [
    Gpu("V100", 15.7, 125, 32),
    Gpu("A100", 19.5, 312, 80),
    Gpu("H100", 67, 989, 80),
    Gpu("RTX 4090", 82.6, 165, 24),
]


@dataclass(frozen=True, slots=True)
class Step:
    """What one clip of one frame size asks for."""

    flop: float
    kept: float  # bytes


class Kept:
    """Counts the bytes that autograd keeps, each storage once; weights are not counted."""

    def __init__(self, model: nn.Module) -> None:
        own = [*model.parameters(), *model.buffers()]
        self._seen = {tensor.untyped_storage()._cdata for tensor in own}
        self._held: list[Tensor] = []  # so that no address is used twice
        self.bytes = 0

    def __call__(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._seen:
            self._seen.add(storage._cdata)
            self._held.append(tensor)
            self.bytes += storage.nbytes()
        return tensor


def step(model: nn.Module, frames: int, height: int, width: int, precision: str) -> Step:
    """Forward and backward of a clip. IDOL looks at the frames of a pair one after the other."""
    pixels = torch.zeros(1, frames, 3, height, width, device="meta")
    pad = torch.zeros(1, frames, height, width, dtype=torch.bool, device="meta")
    select = torch.zeros(1, MATCHED, dtype=torch.long, device="meta")
    kept, counter = Kept(model), FlopCounterMode(display=False)
    half = torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16")
    with counter, torch.autograd.graph.saved_tensors_hooks(kept, lambda tensor: tensor):
        with half:
            if isinstance(model, SeqFormer):
                answers = model.layers(pixels, pad)
            else:
                looks = [model.layers(pixels[:, t], pad[:, t]) for t in range(frames)]
                answers = [answer for look in looks for answer in look]
            found = [
                part for answer in answers for part in (answer.logits, answer.boxes, answer.masks(select))
            ]
            found += [answer.embed for answer in answers if hasattr(answer, "embed")]
        torch.stack([part.float().sum() for part in found]).sum().backward()
    model.zero_grad(set_to_none=True)
    return Step(counter.get_total_flops(), kept.bytes)


def frame_sizes(recipe: Recipe) -> list[tuple[int, int]]:
    """Frames of 16:9, or 4:3 for COCO, at every short side that the recipe draws from, padded."""
    aspect = 4 / 3 if recipe.name.endswith("coco") else 16 / 9
    augment = recipe.data.augment
    scales = [min(1.0, augment.longest / (side * aspect)) for side in augment.sides]
    return [
        (-(-round(side * scale) // 32) * 32, -(-round(side * aspect * scale) // 32) * 32)
        for side, scale in zip(augment.sides, scales, strict=True)
    ]


def largest_of(count: int, values: list[float]) -> float:
    """Mean of the largest of `count` draws from ascending values: a batch is padded to its largest frame."""
    n = len(values)
    return sum(value * (((i + 1) / n) ** count - (i / n) ** count) for i, value in enumerate(values))


def estimate(recipe: Recipe, options: argparse.Namespace) -> str:
    with torch.device("meta"):
        model = zoo.build(preset(recipe.model.base, **recipe.model.change))
    model.train()
    if options.recompute:
        recompute(model)
    clip = recipe.data.frames
    frames = clip.length if isinstance(clip, Clips) else 2
    sizes = frame_sizes(recipe)
    known = {size: step(model, frames, *size, options.precision) for size in set(sizes)}
    steps = [known[size] for size in sizes]
    share = max(1, recipe.data.batch // options.gpus)  # clips a GPU
    flop = largest_of(share, [one.flop for one in steps]) * recipe.data.batch * recipe.run.steps
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    fixed = 4 * sum(p.numel() for p in model.parameters() if not p.requires_grad) + BYTES_TRAINED * trained
    memory = (fixed + share * steps[-1].kept) / GIB + WORKSPACE
    cells = [recipe.name, f"{flop / recipe.run.steps / 2e12:.1f}", f"{memory:.0f}"]
    for gpu in GPUS:
        peak = (gpu.fp32 if options.precision == "fp32" else gpu.half) * 1e12
        hours = flop / (options.gpus * peak * options.reached) / 3600
        cells.append(f"{hours:.1f}" + ("" if memory <= gpu.memory else " *"))
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    published = [name for name in config.bundled() if name.startswith(("idol", "seqformer"))]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--recipes", nargs="+", default=published, choices=published)
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--reached", type=float, help="share of the peak; default 0.4 in fp32, 0.15 in bf16")
    parser.add_argument("--recompute", action="store_true", help="as run.recompute does")
    options = parser.parse_args()
    options.reached = options.reached or (0.4 if options.precision == "fp32" else 0.15)
    print(
        f"{options.gpus} GPUs, {options.precision}, {options.reached:.0%} of the peak assumed"
        + (", blocks computed again" if options.recompute else "")
        + "; * does not fit that GPU\n"
    )
    print("| recipe | TMAC a step | GiB a GPU | " + " | ".join(f"hours, {gpu.name}" for gpu in GPUS) + " |")
    print("|---|" + "---|" * (2 + len(GPUS)))
    for name in options.recipes:
        print(estimate(config.load(name), options), flush=True)


if __name__ == "__main__":
    main()
