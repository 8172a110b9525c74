"""A whole command beside another one: `ookd track` and `yolo track`, from an H.264 file to masks on disk.

Both run OpenVINO graphs of the same frame size, in bfloat16 where the processor has it, bound to the same
cores, in turns. Each tracks a short and a long part of the same video; a frame costs the difference over the
difference in frames, so starting up does not count. What differs: YOLO's weights are random, so it finds
nothing and its tracker, its suppression and its writing of masks have nothing to do, which is in its favour.

Ultralytics is AGPL and no part of this project: the program only runs the `yolo` command of an environment
given by --env, such as `python -m venv E; E/bin/pip install ultralytics openvino lap`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from measuring import Table
from ookd.cli.export import parse_size
from ookd.data.video import VideoWriter
from ookd.errors import UserError
from ookd.worlds import World

OURS = "nano"


def options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--env", type=Path, required=True, help="a virtual environment with ultralytics, openvino and lap")
    add("--models", nargs="+", default=["yolo11n-seg", "yolo26n-seg"], help="of ultralytics")
    add("--sizes", nargs="+", default=["160x288", "256x448", "384x640"])
    add("--frames", type=int, nargs=2, default=(100, 400), metavar=("FEW", "MANY"))
    add("--repeats", type=int, default=5)
    add("--cores", type=int, nargs="+", default=[0], help="the processor's cores that each may use")


def run(given: argparse.Namespace) -> None:
    yolo = (given.env / "bin" / "yolo").absolute()
    if not yolo.is_file():
        raise UserError(f"{yolo} is not there: --env needs an environment with ultralytics")
    numbers = dict.fromkeys(["processor ms a frame", "lowest", "highest", "clock ms a frame"], ".1f")
    ratios = dict.fromkeys([f"{OURS} / it, processor", f"{OURS} / it, clock"], ".2f")
    columns = {"size": "", "model": "", **numbers, **ratios, "peak MB": ".0f"}
    with tempfile.TemporaryDirectory() as scratch, Table(given, columns) as table:
        for size in given.sizes:
            folder = Path(scratch) / size
            clips = [drawn(folder / f"{n}.mp4", size, n) for n in given.frames]
            commands = {OURS: ours(folder, size)}
            commands |= {name: theirs(yolo, folder, name, size) for name in given.models}
            spent = measure(commands, clips, given, folder)
            mine = spent[OURS]
            for name, cost in spent.items():
                parts = [cost.processor, cost.clock]
                ratio = [
                    median(a / b for a, b in zip(x, y, strict=True))
                    for x, y in zip([mine.processor, mine.clock], parts, strict=True)
                ]
                processor = sorted(cost.processor)
                table.add(
                    size,
                    name,
                    median(processor),
                    processor[0],
                    processor[-1],
                    median(cost.clock),
                    *ratio,
                    cost.peak,
                )


@dataclass(slots=True)
class Cost:
    """Milliseconds a frame in each turn."""

    processor: list[float] = field(default_factory=list)
    clock: list[float] = field(default_factory=list)
    peak: float = 0.0  # MB


def measure(
    commands: Mapping[str, Sequence[str]], clips: Sequence[Path], given: argparse.Namespace, folder: Path
) -> dict[str, Cost]:
    """All commands in turns. Both lengths of a turn follow each other."""
    costs = {name: Cost() for name in commands}
    more = given.frames[1] - given.frames[0]
    for turn in range(given.repeats):
        for name, command in commands.items():
            ends = []
            for clip in clips:
                out = folder / "results" / f"{name}-{turn}-{clip.stem}"
                words = [
                    word.format(clip=clip, out=out, parent=out.parent, name=out.name) for word in command
                ]
                ends.append(once(words, folder, given.cores))
            few, many = ends
            costs[name].processor.append(1e3 * (many[0] - few[0]) / more)
            costs[name].clock.append(1e3 * (many[1] - few[1]) / more)
            costs[name].peak = max(costs[name].peak, many[2])
    return costs


def once(command: Sequence[str], folder: Path, cores: Sequence[int]) -> tuple[float, float, float]:
    """Seconds of the processor and of the clock, and peak memory in MB, of a command."""
    quiet = {"YOLO_OFFLINE": "true", "YOLO_VERBOSE": "false", "YOLO_CONFIG_DIR": str(folder)}
    began = time.perf_counter()
    log = folder / "log.txt"
    with log.open("w") as file:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | quiet,
            stdout=file,
            stderr=file,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise UserError(f"{' '.join(command)} failed: {log.read_text()[-400:]}")
    return used.ru_utime + used.ru_stime, time.perf_counter() - began, used.ru_maxrss / 1024


def ours(folder: Path, size: str) -> list[str]:
    """Our command, on a model exported to the folder."""
    ookd = [sys.executable, "-m", "ookd"]
    model = folder / OURS
    exporting = ["export", OURS, str(model), "--precision", "bf16", "--size", size, "--no-check"]
    subprocess.run([*ookd, *exporting], check=True, capture_output=True)
    return [*ookd, "track", "{clip}", "--model", str(model), "--out", "{out}", "--save", "json"]


def theirs(yolo: Path, folder: Path, name: str, size: str) -> list[str]:
    """The command of `yolo`, on a model of random weights exported to the folder."""
    sides = f"imgsz={size.replace('x', ',')}"
    exporting = [str(yolo), "export", f"model={name}.yaml", "format=openvino", sides]
    once(exporting, folder, list(range(os.cpu_count() or 1)))
    return [
        str(yolo),
        "track",
        "task=segment",
        f"model={name}_openvino_model",
        "source={clip}",
        sides,
        "tracker=bytetrack.yaml",
        "save=False",
        "save_txt=True",
        "verbose=False",
        "project={parent}",
        "name={name}",
    ]


def drawn(path: Path, size: str, frames: int) -> Path:
    """The first frames of a drawn scene as H.264."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = parse_size(size)
    world = World(split="test", videos=1, frames=frames, height=height, width=width)
    with VideoWriter(path, 25) as writer:
        for frame in range(frames):
            writer.write(world.clip(0, [frame]).images[0])
    return path
