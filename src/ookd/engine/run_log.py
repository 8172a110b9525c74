"""What a run writes while it trains: its recipe, its environment, and metrics every few steps."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Any, Self

import pydantic
import torch
import yaml
from safetensors.torch import save_file

from ookd import __version__, untrusted
from ookd.config import Recipe
from ookd.engine.display import Display, StepProgress
from ookd.engine.launcher import is_main
from ookd.files import write_file
from ookd.process import peak_memory
from ookd.structures import Batch

RECIPE, ENVIRONMENT, METRICS = "recipe.yaml", "environment.json", "metrics.jsonl"
RECENT = 200  # steps over which speed and shares of time are measured


class MetricLine(pydantic.BaseModel):
    """What a line of `metrics.jsonl` holds at least: numbers of a step, or of a validation after it."""

    step: pydantic.StrictInt
    loss: dict[str, float] | None = None
    val: dict[str, float] | None = None

    @pydantic.model_validator(mode="after")
    def _whole(self) -> Self:
        if self.loss is None and self.val is None:
            raise ValueError("neither about a step nor about a validation")
        if self.val is not None and "AP" not in self.val:
            raise ValueError("a validation without AP")
        return self


class RunLog:
    """Writes `metrics.jsonl` and shows the progress of the run."""

    def __init__(self, recipe: Recipe, out: Path, quiet: bool = False, verbose: bool = False) -> None:
        self.recipe, self.out = recipe, out
        self.display = Display(recipe.run.steps, quiet, verbose=verbose)
        out.mkdir(parents=True, exist_ok=True)
        self._metrics = out / METRICS
        self._recent: deque[tuple[int, dict[str, float]]] = deque(maxlen=RECENT)  # frames, seconds

    def begin(self) -> None:
        """Write what the run is, once it is clear that it can begin or go on."""
        if is_main():
            write_file(self.out / RECIPE, yaml.safe_dump(self.recipe.model_dump(), sort_keys=False))
            write_file(self.out / ENVIRONMENT, json.dumps(environment(), indent=1))

    def step(
        self,
        step: int,
        terms: dict[str, float],
        factor: float,
        norm: float,
        frames: int,
        spent: dict[str, float],
    ) -> dict[str, float]:
        """Record a finished step. `spent` holds the seconds of its parts, and of "all" of it.

        Every `log_every` steps, this writes a line and returns its numbers for metric trackers.
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
        self.display.step(StepProgress(step, terms, rate, speed, most, left), line=due)
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
        """The share of each part in the time of recent steps. Shares add up to 1."""
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
        """The lines written so far."""
        return read_lines(self._metrics)

    def last_ap(self) -> float | None:
        """The AP of the last validation, if there was one."""
        found = self.validations()
        return found[-1]["val"]["AP"] if found else None

    def validations(self) -> list[dict[str, Any]]:
        """The lines about validations."""
        return [line for line in self.lines() if "val" in line]

    def note(self, text: str) -> None:
        self.display.note(text)

    def warn(self, text: str) -> None:
        self.display.note(f"warning: {text}")

    def rewind(self, step: int) -> None:
        """Drop the lines after `step`, because the run will write them again."""
        if not is_main() or not self._metrics.exists():
            return
        kept = [line for line in self.lines() if line["step"] <= step]
        write_file(self._metrics, "".join(json.dumps(line) + "\n" for line in kept))

    def save_batch(self, step: int, batch: Batch, terms: dict[str, float]) -> Path:
        """Save a batch with a non-finite loss."""
        folder = self.out / "not-finite"
        folder.mkdir(exist_ok=True)
        path = folder / f"step-{step:08d}.safetensors"
        tensors = {"frames": batch.frames, "pad": batch.pad}
        for b, tracks in enumerate(batch.tracks):
            for name in ("labels", "ids", "boxes", "masks", "visible"):
                tensors[f"{b}.{name}"] = getattr(tracks, name)
        save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, path)
        self.warn(f"loss not finite at step {step}: {terms}; step skipped, batch saved in {path}")
        return path


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`, except damaged ones, as a killed run leaves one."""
    lines = []
    for text in untrusted.read_lines(path) if untrusted.is_file(path) else []:
        try:
            MetricLine.model_validate_json(text)
            lines.append(json.loads(text))
        except (ValueError, RecursionError):
            continue
    return lines


def memory_in_use() -> dict[str, float]:
    """Peak memory of this process so far, in MB, and of its GPU."""
    memory = {"memory_mb": float(round(peak_memory() / 2**20))}
    if torch.cuda.is_initialized():
        memory["gpu_mb"] = float(round(torch.cuda.max_memory_allocated() / 2**20))
    return memory


def environment() -> dict[str, object]:
    """Machine, versions and revision, so that results can be traced."""
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
    """The answer of git about the program's own repository; empty if there is none."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *words], capture_output=True, text=True, check=False
        )
    except OSError:  # no git on this machine
        return ""
    return answer.stdout.strip()
