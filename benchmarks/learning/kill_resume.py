"""Kill a training run at random moments, resume it each time, and compare it with an undisturbed run.

Moments are spread over the run: while a process starts, steps, or saves. Losses of all steps, the final
weights and the optimiser's state must be equal to the bit.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

SMALL = [
    "data.train.0.videos=24",
    "data.train.0.change={height: 64, width: 96, frames: 8, crowd: [2, 3]}",
    "data.val=null",
    "data.workers=2",
    "data.batch=2",
    "model.change={width: 32, mask_width: 16, embed: 16, heads: 4, hidden: 64, queries: 8, frozen: 5}",
    "optim.warmup=4",
    "run.precision=fp32",
    "run.threads=1",
    "run.ema=0.9",
    "run.log_every=1",
    "run.save_every=3",
]


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/kill-resume"))


def run(given: argparse.Namespace) -> int:
    whole, broken = given.out / "whole", given.out / "killed"
    began = time.perf_counter()
    subprocess.run(command(whole, given.steps), check=True, stderr=subprocess.DEVNULL)
    delay = 10 * (time.perf_counter() - began) / given.steps  # a start, some steps, a save
    hits = kill_often(broken, given.steps, given.kills, delay, random.Random(given.seed))
    odd = differences(whole, broken, given.steps)
    verdict = "losses, weights, optimiser and average equal"
    if odd:
        verdict = f"{len(odd)} differences: {', '.join(odd[:5])}"
    print(f"{hits} kills in {given.steps} steps: {verdict}")
    return 1 if odd or hits < given.kills else 0


def command(folder: Path, steps: int) -> list[str]:
    train = [sys.executable, "-m", "ookd", "train", "nano-ytvis-like", "--device", "cpu", "--resume"]
    changes = [f"--set={change}" for change in (*SMALL, f"run.steps={steps}")]
    return [*train, "--out", str(folder), *changes]


def kill_often(folder: Path, steps: int, kills: int, delay: float, chance: random.Random) -> int:
    """Kill the run at random steps, up to `delay` seconds after; then let it finish. How often it was hit."""
    hits = 0
    for target in sorted(chance.sample(range(steps), kills)):
        process = subprocess.Popen(command(folder, steps), stderr=subprocess.DEVNULL)
        while process.poll() is None and len(losses(folder)) < target:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, delay))
        process.send_signal(signal.SIGKILL)
        hits += process.wait() == -signal.SIGKILL
        print(f"killed with {len(losses(folder))} steps recorded", file=sys.stderr)
    subprocess.run(command(folder, steps), check=True, stderr=subprocess.DEVNULL)
    return hits


def losses(folder: Path) -> list[str]:
    """The recorded losses of each step, without what depends on the clock."""
    metrics = folder / "metrics.jsonl"
    written = metrics.read_text().splitlines() if metrics.exists() else []
    return [line.partition(', "lr"')[0] for line in written]


def differences(one: Path, other: Path, steps: int) -> list[str]:
    odd = [] if losses(one) == losses(other) else ["losses"]
    for part in ("model", "optimizer", "average"):
        name = f"checkpoints/step-{steps:08d}/{part}.safetensors"
        mine, theirs = load_file(one / name), load_file(other / name)
        if mine.keys() != theirs.keys():
            odd.append(f"{part}: names")
        odd += [f"{part}: {key}" for key, value in mine.items() if not torch.equal(value, theirs[key])]
    return odd
