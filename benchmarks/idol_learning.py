"""What placed queries are worth to IDOL and SeqFormer: equal steps from the same trunk, on a synthetic world.

A model of about 5 M parameters over EfficientNet-Lite0 learns at 128 x 224, once with learned queries as
published, once from the peaks of a heat-map, and once with auxiliary queries inside the objects besides.
Measured are the last layer's published detection loss on videos not trained on, frame AP50 on videos of one
frame, so that no tracker is involved, and the processor time of a step without its data.

    python benchmarks/idol_learning.py --steps 600 --seeds 0 1
    python benchmarks/idol_learning.py --family seqformer --steps 600 --batch 2
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import torch
from torch import nn

from ookd import config
from ookd.clips.opening import open_loader
from ookd.config.tracker import TrackerConfig
from ookd.engine.build import make_model, make_optimizer, make_task, rate
from ookd.evaluation.run import evaluate
from ookd.models.parts.detection_losses import WEIGHTS
from ookd.tracking.offline import OfflineConfig, predict_offline
from ookd.tracking.predict import predict
from ookd.worlds import World

ARMS: dict[str, dict[str, Any]] = {
    "learned queries": {},
    "heat-map peaks": {"start": "peaks"},
    "peaks and 16 auxiliary": {"start": "peaks", "auxiliary": 16},
}
MODEL = {
    "backbone": {"kind": "lite"},
    "dim": 128,
    "ffn": 512,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "queries": 60,
    "dropout": 0.0,
}
FRAMES = {
    "idol": {"kind": "pair", "span": 10},
    "seqformer": {"kind": "clip", "length": 4, "span": 10},
}
EVERY = TrackerConfig(select_score=0.05, first_score=0.05)  # a track of one frame is a detection: all count
BATCHES = 20  # of the held-out loss


def learn(arm: str, given: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train one model as its recipe says, without checkpoints or records, and score it."""
    height, width = given.size
    size = {"height": height, "width": width}
    world = {"kind": "world", "preset": "ytvis-like", "split": "train", "videos": 700, "change": size}
    data = {"train": [world], "workers": 0, "frames": FRAMES[given.family], "batch": given.batch}
    model = {"base": f"{given.family}-r50", "change": {**MODEL, **ARMS[arm]}}
    tree = {
        "name": arm,
        "data": data,
        "model": model,
        "optim": {"lr": 5e-4, "warmup": 50},
        "run": {"seed": seed, "steps": given.steps},
    }
    recipe = config.parse(tree, arm)
    torch.manual_seed(seed)
    loader, names = open_loader(recipe, 0, 1)
    network = make_model(recipe.model, len(names))
    task: Any = make_task(network, recipe, names).to(memory_format=torch.channels_last)
    optimizer = make_optimizer(task, recipe)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate(recipe.optim, given.steps))
    taken, batches = [], iter(loader)
    for _ in range(given.steps):
        batch = next(batches)
        start = time.process_time()
        with torch.autocast("cpu", torch.bfloat16):
            terms = task(batch)
        loss = torch.stack([task.weights[name] * terms[name] for name in task.weights]).sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(task.parameters(), recipe.optim.clip)
        optimizer.step()
        schedule.step()
        taken.append(time.process_time() - start)
    ap50, ap = frame_ap(network, size, given)
    return {
        "arm": arm,
        "seed": seed,
        "parameters_m": sum(p.numel() for p in network.parameters()) / 1e6,
        "loss": held_out_loss(task, {**tree, "data": {**data, "train": [{**world, "split": "val"}]}}),
        "ap50": ap50,
        "ap": ap,
        "step_s": statistics.median(taken),
    }


@torch.no_grad()
def held_out_loss(task: Any, tree: dict[str, Any]) -> float:
    """Mean over some batches of the terms that all arms have, auxiliary queries left out."""
    batches = iter(open_loader(config.parse(tree, "validation"), 0, 1)[0])
    task.eval()
    losses = []
    for _ in range(BATCHES):
        with torch.autocast("cpu", torch.bfloat16):
            terms = task(next(batches))
        losses.append(sum(weight * terms[name].item() for name, weight in WEIGHTS.items()))
    return statistics.mean(losses)


def frame_ap(model: nn.Module, size: dict[str, int], given: argparse.Namespace) -> tuple[float, float]:
    """AP50 and AP, in points, over videos of one frame."""
    world = World("ytvis-like", split="val", videos=given.frames, frames=1, **size)
    with torch.autocast("cpu", torch.bfloat16):
        if given.family == "idol":
            results = predict(model, world, EVERY)
        else:
            results = predict_offline(model, world, OfflineConfig())
    summary = evaluate(world.dataset(), results).summary
    return 100 * summary["AP50"], 100 * summary["AP"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--family", choices=FRAMES, default="idol")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--batch", type=int, default=4, help="clips in a step")
    parser.add_argument("--size", type=int, nargs=2, default=(128, 224), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--frames", type=int, default=600, help="frames that are scored")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for seed in given.seeds:
        for arm in given.arms:
            rows.append(learn(arm, given, seed))
            print(json.dumps(rows[-1]), flush=True)
    print(
        f"\n{given.family}, {given.size}, {given.steps} steps of {given.batch} clips, one thread, "
        f"seeds {given.seeds}, {given.frames} frames\n"
    )
    print("| queries | parameters (M) | held-out loss | frame AP50 | frame AP | processor s a step |")
    print("|---|---|---|---|---|---|")
    for arm in given.arms:
        own = [row for row in rows if row["arm"] == arm]
        loss, ap50, ap = (" / ".join(f"{row[n]:.1f}" for row in own) for n in ("loss", "ap50", "ap"))
        step = statistics.median(row["step_s"] for row in own)
        print(f"| {arm} | {own[0]['parameters_m']:.2f} | {loss} | {ap50} | {ap} | {step:.2f} |")


if __name__ == "__main__":
    main()
