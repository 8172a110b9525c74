"""Kills train, predict, label, fleet and export at random moments, and runs them again to the same bytes.

Each command runs once undisturbed. Then it is killed (SIGKILL, with all its children) up to three times and
called again, until it ends. What it leaves must be what the undisturbed one left, and nothing else.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.tiny import CHANGES
from ookd.files import checksum
from stress.material import SIZE, Material

SECONDS = 300  # of a command


@dataclass(frozen=True, slots=True)
class Task:
    """A command, and what it leaves that is the same each time."""

    words: list[str]
    left: Callable[[Path], dict[str, str]]
    again: tuple[str, ...] = ()  # further words of the second call


def options(parser: ArgumentParser) -> None:
    parser.add_argument("commands", nargs="*", help="train, predict, label, fleet, export; all if none")
    parser.add_argument("--rounds", type=int, default=5, help="of each command")
    parser.add_argument("--seed", type=int, default=0)


def run(asked: Namespace) -> int:
    chance = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        different = [
            fault
            for verb, task in tasks(place).items()
            if verb in (asked.commands or [verb])
            for fault in trial(verb, task, place, asked.rounds, chance)
        ]
    print(f"{len(different)} rounds ended otherwise: {', '.join(different)}" if different else "all the same")
    return 1 if different else 0


def tasks(place: Path) -> dict[str, Task]:
    given = Material(place / "material")
    given.folder.mkdir()
    frames, model = str(given.data / "frames"), str(given.model)
    train = [word for change in [*CHANGES, "run.steps=30", "run.save_every=3"] for word in ("--set", change)]
    return {
        "train": Task(["train", "nano-ytvis-like", "--device", "cpu", *train], _run, ("--resume",)),
        "predict": Task(["predict", str(given.data), "--frames", frames, "--model", model], _whole),
        "label": Task(["label", str(given.data), "--model", model, "--score", "0.1"], _whole),
        "fleet": Task(["fleet", str(given.videos), "--model", model, "--workers", "1"], _whole),
        "export": Task(["export", model, "--to", "onnx", "--size", SIZE, "--scenes", "0"], _whole),
    }


def trial(verb: str, task: Task, place: Path, rounds: int, chance: random.Random) -> list[str]:
    """What differed in each round."""
    whole, out = place / f"{verb}-whole", place / f"{verb}-out"
    began = time.monotonic()
    if (done := _call(task.words, whole)).wait(SECONDS):
        raise RuntimeError(f"{verb}: exit code {done.returncode}")
    length, wanted = time.monotonic() - began, task.left(whole)
    different = []
    for number in range(rounds):
        moments = [chance.uniform(0, length) for _ in range(chance.randint(1, 3))]
        killed, again = 0, False
        for moment in moments:
            running = _call([*task.words, *(task.again if again else ())], out)
            try:
                running.wait(moment)
                break
            except subprocess.TimeoutExpired:
                os.killpg(running.pid, signal.SIGKILL)
                running.wait()
                killed, again = killed + 1, True
        code = _call([*task.words, *task.again], out).wait(SECONDS) if killed == len(moments) else 0
        found = task.left(out)
        odd = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        # exit code 2: it was killed when all was done, and is not done again unasked
        told = f"differs: {', '.join(odd)}" if odd else "the same"
        told += f" (exit code {code})" if code else ""
        at = " and ".join(f"{moment:.1f}" for moment in moments[:killed])
        print(f"{verb} {number}: killed after {at} of {length:.1f} s: {told}", flush=True)
        if odd or code not in (0, 2):
            different.append(f"{verb} {number}")
        _remove(place, out)
    return different


def _call(words: list[str], out: Path) -> subprocess.Popen[bytes]:
    named = [*words[:2], str(out), *words[2:]] if words[0] == "export" else [*words, "--out", str(out)]
    return subprocess.Popen(
        [sys.executable, "-m", "ookd", *named],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _whole(folder: Path) -> dict[str, str]:
    """Every file, and what lies beside the folder and begins like it."""
    files = {str(path.relative_to(folder)): checksum(path) for path in folder.rglob("*") if path.is_file()}
    beside = [path.name for path in folder.parent.glob(f"*{folder.name}*") if path != folder]
    return files | dict.fromkeys(beside, "left beside")


def _run(folder: Path) -> dict[str, str]:
    """The files of a training run, but for its environment and its page, which tell times."""
    files = {
        name: digest
        for name, digest in _whole(folder).items()
        if Path(name).name not in ("environment.json", "metrics.jsonl", "run.html", "validation.json")
    }
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [(line["step"], line.get("loss"), line.get("val")) for line in lines]
    return files | {"losses and validations": json.dumps(losses)}


def _remove(place: Path, out: Path) -> None:
    subprocess.run(["rm", "-rf", *map(str, place.glob(f"*{out.name}*"))], check=True)
