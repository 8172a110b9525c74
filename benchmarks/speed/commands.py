"""What a frame costs a whole command: a short and a long video, and the difference over that in frames."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ookd.cli.export import parse_size
from ookd.data.video import VideoWriter
from ookd.errors import UserError
from ookd.worlds import World


@dataclass(slots=True)
class Cost:
    """Milliseconds a frame in each turn."""

    processor: list[float] = field(default_factory=list)
    clock: list[float] = field(default_factory=list)
    peak: float = 0.0  # MB


def measure(
    commands: Mapping[str, Sequence[str]],
    clips: Mapping[int, Path],
    folder: Path,
    repeats: int,
    cores: Sequence[int] | None = None,
) -> dict[str, Cost]:
    """All commands in turns, on a short and a long clip, by their number of frames.

    In the words of a command `{clip}` and `{out}` stand for a video and for a folder that is not there yet;
    `{parent}` and `{name}` are that folder's two parts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    costs = {name: Cost() for name in commands}
    more = max(clips) - min(clips)
    for turn in range(repeats):
        for name, command in commands.items():
            ends = []
            for _, clip in sorted(clips.items()):
                out = folder / "results" / f"{name}-{turn}-{clip.stem}"
                words = [
                    word.format(clip=clip, out=out, parent=out.parent, name=out.name) for word in command
                ]
                ends.append(once(words, folder, cores))
            few, many = ends
            costs[name].processor.append(1e3 * (many[0] - few[0]) / more)
            costs[name].clock.append(1e3 * (many[1] - few[1]) / more)
            costs[name].peak = max(costs[name].peak, many[2])
    return costs


def yolo_command(env: Path) -> Path:
    """The `yolo` of a virtual environment."""
    yolo = (env / "bin" / "yolo").absolute()
    if not yolo.is_file():
        raise UserError(f"{yolo} is not there: --env needs an environment with ultralytics")
    return yolo


def once(
    command: Sequence[str], folder: Path, cores: Sequence[int] | None = None, **variables: str
) -> tuple[float, float, float]:
    """Seconds of the processor and of the clock, and peak memory in MB, of a command.

    `variables` are added to its environment.
    """
    began = time.perf_counter()
    log = folder / "log.txt"
    with log.open("w") as file:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **variables},
            stdout=file,
            stderr=file,
            preexec_fn=None if cores is None else lambda: os.sched_setaffinity(0, cores),
        )
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise UserError(f"{' '.join(command)} failed: {log.read_text()[-400:]}")
    return used.ru_utime + used.ru_stime, time.perf_counter() - began, used.ru_maxrss / 1024


def drawn(path: Path, size: str, frames: int) -> Path:
    """The first frames of a drawn scene as H.264."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = parse_size(size)
    world = World(split="test", videos=1, frames=frames, height=height, width=width)
    with VideoWriter(path, 25) as writer:
        for frame in range(frames):
            writer.write(world.clip(0, [frame]).images[0])
    return path
