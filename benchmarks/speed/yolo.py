"""Two whole commands compared: `ookd track` and `yolo track`, from an H.264 file to masks on disk.

Both run OpenVINO graphs of the same frame size, in bfloat16 where the processor has it, bound to the same
cores, in turns. Each tracks a short and a long part of the same video; a frame costs the difference over the
difference in frames, so starting up does not count. What differs: YOLO's weights are random, so it finds
nothing and its tracker, its suppression and its writing of masks have nothing to do, which favours YOLO.
Ultralytics is AGPL and not part of this project: the program only runs the `yolo` command of an environment
given by --env, such as `python -m venv E; E/bin/pip install ultralytics openvino lap`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from measuring import Table
from speed.commands import drawn, measure, once, yolo_command

OURS = "nano"


def options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--env", type=Path, required=True, help="a virtual environment with ultralytics, openvino and lap")
    add("--model", default=OURS, help="of ours, instead of the bundled one")
    add("--models", nargs="+", default=["yolo11n-seg", "yolo26n-seg"], help="of ultralytics")
    add("--sizes", nargs="+", default=["160x288", "256x448", "384x640"])
    add("--frames", type=int, nargs=2, default=(100, 400), metavar=("FEW", "MANY"))
    add("--repeats", type=int, default=5)
    add("--cores", type=int, nargs="+", default=[0], help="the processor's cores that each may use")


def run(given: argparse.Namespace) -> None:
    yolo = yolo_command(given.env)
    numbers = dict.fromkeys(["processor ms a frame", "lowest", "highest", "clock ms a frame"], ".1f")
    ratios = dict.fromkeys([f"{OURS} / it, processor", f"{OURS} / it, clock"], ".2f")
    columns = {"size": "", "model": "", **numbers, **ratios, "peak MB": ".0f"}
    with tempfile.TemporaryDirectory() as scratch, Table(given, columns) as table:
        os.environ |= {"YOLO_OFFLINE": "true", "YOLO_CONFIG_DIR": scratch}
        for size in given.sizes:
            folder = Path(scratch) / size
            clips = {n: drawn(folder / f"{n}.mp4", size, n) for n in given.frames}
            commands = {OURS: ours(given.model, folder, size)}
            commands |= {name: theirs(yolo, folder, name, size) for name in given.models}
            spent = measure(commands, clips, folder, given.repeats, given.cores)
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


def ours(source: str, folder: Path, size: str) -> list[str]:
    """Our command, on a model exported to the folder."""
    ookd = [sys.executable, "-m", "ookd"]
    model = folder / OURS
    exporting = ["export", source, str(model), "--precision", "bf16", "--size", size, "--no-check"]
    subprocess.run([*ookd, *exporting], check=True, capture_output=True)
    return [*ookd, "track", "{clip}", "--model", str(model), "--out", "{out}", "--save", "json"]


def theirs(yolo: Path, folder: Path, name: str, size: str) -> list[str]:
    """The command of `yolo`, on a model of random weights exported to the folder."""
    sides = f"imgsz={size.replace('x', ',')}"
    exporting = [str(yolo), "export", f"model={name}.yaml", "format=openvino", sides]
    once(exporting, folder)
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
