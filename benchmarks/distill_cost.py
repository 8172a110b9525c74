"""What distillation costs: a training step alone, beside a live teacher, and from a cache; and memory.

    python benchmarks/distill_cost.py --steps 20

`live` and `cached` transfer what a clip tells of pairs; `frames` transfers `pixels` and `shared`, for which
a live teacher looks at the student's frames alone. Each arm trains in a process of its own from the same
start on the same clips of a synthetic world; the median step leaves out the first ones. The cache is filled
first, and that is timed as well.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ookd.config import Recipe

WARM = 3  # first steps, left out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--videos", type=int, default=24)
    parser.add_argument("--length", type=int, default=8, help="frames of the teacher's clip")
    parser.add_argument("--device", default="cpu", help="cpu or auto")
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.arm:
        print(json.dumps(one(args.arm, args.folder, args.steps, args.videos, args.length, args.device)))
        return
    with tempfile.TemporaryDirectory() as folder:
        make_teacher(Path(folder))
        rows = {}
        for arm in ("plain", "frames", "live", "fill", "cached"):
            command = [sys.executable, __file__, *sys.argv[1:], "--arm", arm, "--folder", folder]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            rows[arm] = json.loads(done.stdout.splitlines()[-1])
    fill = rows.pop("fill")
    print("| training | s a step | against plain | peak memory, MB |\n|---|---|---|---|")
    for arm, row in rows.items():
        ratio = row["seconds"] / rows["plain"]["seconds"]
        print(f"| {arm} | {row['seconds']:.3f} | {ratio:.2f} | {row['memory_mb']:.0f} |")
    print(
        f"\nfilling the cache: {fill['seconds']:.1f} s for {args.videos} videos, {fill['bytes'] / 1e6:.1f} MB"
    )


def make_teacher(folder: Path) -> None:
    """Untrained: what it says does not matter for the time, but it must say something."""
    import torch

    from ookd.data.synthetic import World
    from ookd.models import zoo
    from ookd.models.presets import preset

    torch.manual_seed(0)
    names = list(World("ytvis-like").names)
    zoo.save_pretrained(zoo.build(preset("nano-clip", classes=len(names))), folder / "teacher", names)


def one(arm: str, folder: Path, steps: int, videos: int, length: int, device: str) -> dict[str, float]:
    """Seconds and memory of an arm."""
    from ookd import config
    from ookd.distill.fill import FillPlan

    # no threshold on the score, so that an untrained teacher is listened to
    rule = "filter: {kind: sure, min_score: 0}, associate: prediction, pair_iou: 0"
    names = ("pixels", "shared") if arm == "frames" else ("relation", "class", "mask")
    signals = f"signals: {{{', '.join(f'{name}: {{weight: 1}}' for name in names)}}}"
    cache = f"cache: {folder / 'cache'}, " if arm in ("fill", "cached") else ""
    changes = [
        "model.pretrained=false",
        f"data.train.0.videos={videos}",
        f"data.frames={{kind: distill, length: {length}}}",
        f"distill={{teacher: {folder / 'teacher'}, {cache}{rule}, {signals}}}",
    ]
    recipe = config.load("nano-distill", changes)
    if arm == "fill":
        began = time.perf_counter()
        plan = FillPlan(recipe, device)
        plan.run()
        return {"seconds": time.perf_counter() - began, "bytes": plan.cache.bytes}
    if arm == "plain":
        recipe = recipe.model_copy(update={"distill": None})
    return train(recipe, steps, device)


def train(recipe: Recipe, steps: int, device: str) -> dict[str, float]:
    """The median step, loading left out, and the most memory in use."""
    import torch

    from ookd.engine.build import make_model, make_optimizer, make_task, open_loader
    from ookd.tracking.observe import device_named

    torch.manual_seed(0)
    place = device_named(device)
    loader, names = open_loader(recipe, 0, 1)
    task: Any = make_task(make_model(recipe.model, len(names)), recipe, names).to(place).train()
    optimizer = make_optimizer(task, recipe)
    seconds = []
    for step, batch in enumerate(loader):
        if step == steps:
            break
        batch = batch.to(place)
        began = time.perf_counter()
        with torch.autocast(place.type, torch.bfloat16):
            terms = task(batch)
        torch.stack([task.weights[name] * terms[name] for name in task.weights]).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        if place.type != "cpu":
            torch.accelerator.synchronize()
        seconds.append(time.perf_counter() - began)
    most = torch.cuda.max_memory_allocated() if place.type == "cuda" else _resident()
    return {"seconds": statistics.median(seconds[WARM:]), "memory_mb": most / 1e6}


def _resident() -> float:
    from ookd.process import peak_memory

    return float(peak_memory())


if __name__ == "__main__":
    main()
