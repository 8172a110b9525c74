"""What a run leaves behind: its recipe, its surroundings, a line of metrics every few steps."""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console
from safetensors.torch import save_file

from ookd import __version__
from ookd.config import Recipe
from ookd.engine import is_main
from ookd.structures import Batch

WATCHED = ("lr", "grad_norm", "frames_per_s", "waited", "memory_mb")


class Record:
    """Writes `metrics.jsonl` and tells the console how the run goes."""

    def __init__(self, recipe: Recipe, out: Path, quiet: bool = False) -> None:
        self.recipe, self.out = recipe, out
        self.console = Console(stderr=True, quiet=quiet)
        out.mkdir(parents=True, exist_ok=True)
        self._metrics = out / "metrics.jsonl"
        self._recent: deque[tuple[float, int]] = deque(maxlen=200)  # seconds and frames of steps
        if not is_main():
            return
        (out / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(), sort_keys=False))
        (out / "environment.json").write_text(json.dumps(surroundings(), indent=1))

    def step(
        self,
        step: int,
        terms: dict[str, float],
        factor: float,
        norm: float,
        frames: int,
        began: float,
        waited: float,
    ) -> dict[str, float]:
        """Note a finished step that began at `began`; every `log_every` steps it becomes a line.

        The numbers of the line, for trackers; nothing where there is no line.
        """
        self._recent.append((time.perf_counter() - began, frames))
        every, steps = self.recipe.run.log_every, self.recipe.run.steps
        if step % every and step != steps and step != 1:
            return {}
        seconds = sum(s for s, _ in self._recent)
        speed = sum(f for _, f in self._recent) / seconds
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        line: dict[str, Any] = {
            "step": step,
            "loss": terms,
            "lr": self.recipe.optim.lr * factor,
            "grad_norm": norm,
            "frames_per_s": round(speed, 2),
            "waited": round(waited, 4),
            "memory_mb": round(memory),
        }
        self.write(line)
        left = seconds / len(self._recent) * (steps - step)
        parts = " ".join(f"{name} {value:.3f}" for name, value in terms.items() if not name[-1].isdigit())
        self.console.print(
            f"step {step}/{steps}  {parts}  lr {line['lr']:.2e}  {speed:.1f} frames/s  {memory:.0f} MB  "
            f"{_clock(left)} left",
            highlight=False,
            soft_wrap=True,
        )
        return {f"loss/{k}": v for k, v in terms.items()} | {k: v for k, v in line.items() if k in WATCHED}

    def write(self, line: dict[str, object]) -> None:
        """Append one line to `metrics.jsonl`."""
        with self._metrics.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def note(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        self.console.print(f"warning: {text}", highlight=False, soft_wrap=True)

    def rewind(self, step: int) -> None:
        """Drop the lines after `step`: the run is about to write them again."""
        if not is_main() or not self._metrics.exists():
            return
        kept = []
        for line in self._metrics.read_text().splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line)
            except (ValueError, KeyError):
                continue  # cut off by a kill
        beside = self._metrics.with_suffix(".new")
        beside.write_text("".join(line + "\n" for line in kept))
        beside.replace(self._metrics)

    def keep_batch(self, step: int, batch: Batch, terms: dict[str, float]) -> Path:
        """Save a batch whose loss was not finite."""
        folder = self.out / "not-finite"
        folder.mkdir(exist_ok=True)
        path = folder / f"step-{step:08d}.safetensors"
        tensors = {"frames": batch.frames, "pad": batch.pad}
        for b, tracks in enumerate(batch.tracks):
            for name in ("labels", "ids", "boxes", "masks", "visible"):
                tensors[f"{b}.{name}"] = getattr(tracks, name)
        save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, path)
        self.warn(f"loss not finite at step {step}: {terms}; step skipped, batch kept in {path}")
        return path


def surroundings() -> dict[str, object]:
    """Machine, versions and revision, so that a number can be traced."""
    revision = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    return {
        "ookd": __version__,
        "revision": revision or None,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
