"""What a run leaves behind while it goes: its recipe, its surroundings, a line of metrics every few steps."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file

from ookd import __version__
from ookd.config import Recipe
from ookd.engine import is_main
from ookd.engine.display import Display, Progress
from ookd.process import peak_memory
from ookd.structures import Batch

RECIPE, ENVIRONMENT, METRICS = "recipe.yaml", "environment.json", "metrics.jsonl"
RECENT = 200  # steps that speed and shares of time are measured over


class Record:
    """Writes `metrics.jsonl` and tells the console how the run goes."""

    def __init__(self, recipe: Recipe, out: Path, quiet: bool = False) -> None:
        self.recipe, self.out = recipe, out
        self.display = Display(recipe.run.steps, quiet)
        out.mkdir(parents=True, exist_ok=True)
        self._metrics = out / METRICS
        self._recent: deque[tuple[int, dict[str, float]]] = deque(
            maxlen=RECENT
        )  # frames and seconds of steps
        if not is_main():
            return
        write_whole(out / RECIPE, yaml.safe_dump(recipe.model_dump(), sort_keys=False))
        (out / ENVIRONMENT).write_text(json.dumps(surroundings(), indent=1))

    def step(
        self,
        step: int,
        terms: dict[str, float],
        factor: float,
        norm: float,
        frames: int,
        spent: dict[str, float],
    ) -> dict[str, float]:
        """Note a finished step and the seconds `spent` on its parts and on "all" of it.

        Every `log_every` steps it becomes a line; the numbers of the line, for trackers, otherwise nothing.
        """
        self._recent.append((frames, spent))
        run = self.recipe.run
        seconds = sum(spent["all"] for _, spent in self._recent)
        speed = sum(frames for frames, _ in self._recent) / seconds
        memory = memory_in_use()
        due = step % run.log_every == 0 or step in (1, run.steps)
        left = seconds / len(self._recent) * (run.steps - step)
        rate = self.recipe.optim.lr * factor
        most = memory.get("gpu_mb", memory["memory_mb"])
        self.display.step(Progress(step, terms, rate, speed, most, left), line=due)
        if not due:
            return {}
        numbers = {
            "lr": rate,
            "grad_norm": norm,
            "frames_per_s": round(speed, 2),
            **memory,
            **{f"time_{part}": round(share, 4) for part, share in self._shares(seconds).items()},
        }
        self.write({"step": step, "loss": terms, **numbers})
        return {f"loss/{name}": value for name, value in terms.items()} | numbers

    def _shares(self, seconds: float) -> dict[str, float]:
        """The share of each part of a step in the time of recent steps; they sum to 1."""
        parts = {"loader": 0.0, "matcher": 0.0, "model": 0.0}
        for _, spent in self._recent:
            for part, value in spent.items():
                if part != "all":
                    parts[part] = parts.get(part, 0.0) + value
        shares = {part: value / seconds for part, value in parts.items()}
        return {**shares, "rest": 1 - sum(shares.values())}

    def write(self, line: dict[str, Any]) -> None:
        """Append one line to `metrics.jsonl`."""
        with self._metrics.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def lines(self) -> list[dict[str, Any]]:
        """What was written so far."""
        return read_lines(self._metrics)

    def last_ap(self) -> float | None:
        """Of the last validation, if there was one."""
        found = [line["val"]["AP"] for line in self.lines() if "val" in line]
        return found[-1] if found else None

    def note(self, text: str) -> None:
        self.display.note(text)

    def warn(self, text: str) -> None:
        self.display.note(f"warning: {text}")

    def rewind(self, step: int) -> None:
        """Drop the lines after `step`: the run is about to write them again."""
        if not is_main() or not self._metrics.exists():
            return
        kept = [line for line in self.lines() if line["step"] <= step]
        beside = self._metrics.with_suffix(".new")
        beside.write_text("".join(json.dumps(line) + "\n" for line in kept))
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


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`, without one that a kill cut off."""
    lines = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and "step" in line:
            lines.append(line)
    return lines


def write_whole(path: Path, text: str) -> None:
    """Write beside and rename, so that a name that exists is whole."""
    beside = path.with_name(path.name + ".partial")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def memory_in_use() -> dict[str, float]:
    """The most memory this process has held so far, in MB, and the most of its GPU's."""
    memory = {"memory_mb": float(round(peak_memory() / 2**20))}
    if torch.cuda.is_initialized():
        memory["gpu_mb"] = float(round(torch.cuda.max_memory_allocated() / 2**20))
    return memory


def surroundings() -> dict[str, object]:
    """Machine, versions and revision, so that a number can be traced."""
    return {
        "ookd": __version__,
        "revision": _git("rev-parse", "HEAD") or None,
        "changed": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def _git(*words: str) -> str:
    """What git says about the program's own repository; nothing where there is none."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *words], capture_output=True, text=True, check=False
        )
    except OSError:  # no git on this machine
        return ""
    return answer.stdout.strip()
