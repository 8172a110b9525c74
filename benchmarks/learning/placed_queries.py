"""The value of placed queries in IDOL and SeqFormer, after equal steps from the same backbone.

A model of about 5 M parameters over EfficientNet-Lite0 learns a synthetic world at 128x224: with learned
queries as published, from the peaks of a heat-map, and also with auxiliary queries inside the objects.
Measured are the last layer's published detection loss on videos not trained on, frame AP on videos of one
frame, so that no tracker is involved, and the processor time of a step without its data.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from itertools import islice
from typing import Any

import torch
from torch import nn

from measuring import Table
from ookd import config
from ookd.config.tracker import OfflineConfig, TrackerConfig
from ookd.evaluation.run import evaluate
from ookd.models.parts.detection_losses import WEIGHTS
from ookd.tracking.predict import predict
from ookd.worlds import World
from steps import Steps

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


def options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--family", choices=FRAMES, default="idol")
    add("--arms", nargs="+", choices=ARMS, default=list(ARMS), metavar="ARM", help="; ".join(ARMS))
    add("--steps", type=int, default=600)
    add("--seeds", type=int, nargs="+", default=[0])
    add("--batch", type=int, default=4, help="clips in a step")
    add("--size", type=int, nargs=2, default=(128, 224), metavar=("HEIGHT", "WIDTH"))
    add("--frames", type=int, default=600, help="frames that are scored")
    parser.set_defaults(threads=1)


def run(given: argparse.Namespace) -> None:
    columns = {"queries": "", "seed": "", "parameters (M)": ".2f"}
    columns |= dict.fromkeys(["held-out loss", "frame AP50", "frame AP"], ".1f")
    with Table(given, {**columns, "processor s a step": ".2f"}) as table:
        for seed in given.seeds:
            for arm in given.arms:
                table.add(arm, seed, *learn(arm, given, seed))


def learn(arm: str, given: argparse.Namespace, seed: int) -> list[float]:
    """The cells of a row: a model is trained as its recipe says, and scored."""
    size = {"height": given.size[0], "width": given.size[1]}
    world = {"kind": "world", "preset": "ytvis-like", "videos": 700, "change": size}
    tree = {
        "name": arm,
        "data": {"workers": 0, "frames": FRAMES[given.family], "batch": given.batch},
        "model": {"base": f"{given.family}-r50", "change": {**MODEL, **ARMS[arm]}},
        "optim": {"lr": 5e-4, "warmup": 50},
        "run": {"seed": seed, "steps": given.steps, "save_every": given.steps, "threads": given.threads},
    }

    def steps_on(split: str, folder: str) -> Steps:
        data = {**tree["data"], "train": [{**world, "split": split}]}
        recipe = config.parse({**tree, "data": data}, arm)
        return Steps(recipe, folder, cpu=True, clock=time.process_time)

    with tempfile.TemporaryDirectory() as folder:
        steps, held_out = (steps_on(split, f"{folder}/{split}") for split in ("train", "val"))
        steps.trainer.fit()
        loss = held_out_loss(steps.trainer.task, held_out.trainer.loader)
    model = steps.trainer.model
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    step = statistics.median(steps.seconds(reading=False))
    return [parameters, loss, *frame_ap(model, size, given), step]


@torch.no_grad()
def held_out_loss(task: nn.Module, loader: Any) -> float:
    """Mean over some batches of the terms that all arms have, auxiliary queries left out."""
    task.eval()
    losses = []
    for batch in islice(loader, BATCHES):
        with torch.autocast("cpu", torch.bfloat16):
            terms = task(batch)
        losses.append(sum(weight * terms[name].item() for name, weight in WEIGHTS.items()))
    return statistics.mean(losses)


def frame_ap(model: nn.Module, size: dict[str, int], given: argparse.Namespace) -> tuple[float, float]:
    """AP50 and AP, in points, over videos of one frame."""
    world = World("ytvis-like", split="val", videos=given.frames, frames=1, **size)
    with torch.autocast("cpu", torch.bfloat16):
        results = predict(model, world, EVERY if given.family == "idol" else OfflineConfig())
    summary = evaluate(world.dataset(), results).summary
    return 100 * summary["AP50"], 100 * summary["AP"]
