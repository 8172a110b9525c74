"""How long `ookd eval` takes as a whole process, and how much memory.

The set has 360x640 videos of 30 frames with five objects of 40 classes and twenty predictions each: ellipses
with wobbly edges, drawn column by column. Up to 420 videos are drawn; more are copies of them with new ids.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from pycocotools import mask as coco

from measuring import Table, alternate
from ookd.cores import usable_cores

H, W, FRAMES, OBJECTS, PREDICTIONS, CLASSES, DRAWN = 360, 640, 30, 5, 20, 40, 420


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--videos", type=int, default=420)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="keep the set here and use it again")


def run(given: argparse.Namespace) -> None:
    columns = {"videos": "", "JSON MB": ".0f", "best s": ".2f", "median s": ".2f", "worst s": ".2f"}
    with (
        tempfile.TemporaryDirectory() as scratch,
        Table(given, {**columns, "peak MB, all processes": ".0f", "cores": ""}) as table,
    ):
        folder = (given.folder or Path(scratch)) / str(given.videos)
        if not (folder / "pred.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_set(folder, given.videos)
        command = [sys.executable, "-m", "ookd", "eval", "--gt", f"{folder}/gt.json", "--pred"]
        command.append(f"{folder}/pred.json")
        size = sum((folder / name).stat().st_size for name in ("gt.json", "pred.json")) / 2**20
        evaluate = {"eval": lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=True)}
        times = alternate(evaluate, given.repeats)["eval"]
        seconds = min(times.clock), times.median, max(times.clock)
        table.add(given.videos, size, *seconds, most_memory(command), len(usable_cores()))


def write_set(folder: Path, videos: int) -> None:
    drawn = [draw(index) for index in range(min(videos, DRAWN))]
    shape = {"height": H, "width": W, "length": FRAMES}
    listed = [
        {"id": v + 1, **shape, "file_names": [f"{v:05d}/{t}.jpg" for t in range(FRAMES)]}
        for v in range(videos)
    ]
    classes = [{"id": k + 1, "name": f"class{k + 1}"} for k in range(CLASSES)]
    with (folder / "gt.json").open("wb") as gt, (folder / "pred.json").open("wb") as pred:
        gt.write(b'{"categories":%b,"videos":%b' % (orjson.dumps(classes), orjson.dumps(listed)))
        gt.write(b',"annotations":[')
        pred.write(b"[")
        for video in range(videos):
            annotations, results = drawn[video % DRAWN]
            comma = b"," if video else b""
            first = video * OBJECTS + 1
            numbered = [{"id": first + i, **one} for i, one in enumerate(annotations)]
            for file, entries in ((gt, numbered), (pred, results)):
                file.write(comma + b",".join(orjson.dumps({"video_id": video + 1, **one}) for one in entries))
        gt.write(b"]}")
        pred.write(b"]")


def draw(index: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Annotations and predictions of one video."""
    rng = np.random.default_rng(index)
    paths, annotations, results = [], [], []
    for place in range(PREDICTIONS):
        rank = place // OBJECTS  # 0: a good prediction of the object, then worse and worse ones
        if rank == 0:
            path = (*rng.uniform([80, 60, 30, 25], [560, 300, 110, 90]), *rng.uniform([-3, -2], [3, 2]))
            category = int(rng.integers(CLASSES)) + 1
            masks = moving(rng, path, 0)
            areas = [None if mask is None else int(coco.area(mask)) for mask in masks]
            paths.append(path)
            annotations.append(
                {"category_id": category, "iscrowd": 0, "segmentations": masks, "areas": areas}
            )
        x, y, rx, ry, *speed = paths[place % OBJECTS]
        dx, dy, drx, dry = rng.normal(0, [2, 2, 3, 3]) * (1 + 3 * rank)
        right = rng.random() < 0.8 - 0.2 * rank
        category = annotations[place % OBJECTS]["category_id"]
        results.append(
            {
                "category_id": category if right else int(rng.integers(CLASSES)) + 1,
                "score": float(rng.uniform(0.05, 1) * (1 - 0.2 * rank)),
                "segmentations": moving(
                    rng, (x + dx, y + dy, max(8, rx + drx), max(8, ry + dry), *speed), 0.4
                ),
            }
        )
    return annotations, results


def moving(rng: np.random.Generator, path: tuple[float, ...], phase: float) -> list[Any]:
    """Masks of an ellipse with a wobbly edge that moves straight ahead."""
    x, y, rx, ry, vx, vy = path
    return [wobbly(rng, x + vx * t, y + vy * t, rx, ry, 0.3 * t + phase) for t in range(FRAMES)]


def wobbly(rng: np.random.Generator, x: float, y: float, rx: float, ry: float, phase: float) -> Any:
    """An ellipse whose upper and lower edge wave and jitter, as run lengths; None outside the frame."""
    columns = np.arange(max(0, int(x - rx)), min(W - 1, int(x + rx)) + 1)
    if not len(columns):
        return None
    across = (columns - x) / rx
    half = ry * np.sqrt(np.clip(1 - across**2, 0, 1))
    wave = 0.08 * ry * np.sin(6 * across + phase) + rng.integers(-1, 2, len(columns))
    top = np.clip((y - half + wave).round(), 0, H - 1).astype(int)
    bottom = np.maximum(np.clip((y + half + 0.7 * wave[::-1]).round(), 1, H).astype(int), top + 1)
    edges = np.stack([columns * H + top, columns * H + bottom], 1).ravel()
    lengths = np.diff(edges, prepend=0, append=H * W).tolist()
    raw = coco.frPyObjects({"size": [H, W], "counts": lengths}, H, W)
    return {"size": [H, W], "counts": raw["counts"].decode()}


def most_memory(command: list[str]) -> float:
    """The most megabytes that a command and the processes it starts hold together."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        most = 0.0
        while process.poll() is None:
            most = max(most, held(process.pid))
            time.sleep(0.05)
    return most


def held(pid: int) -> float:
    """Megabytes of a process and those it started; what they share is counted once (Linux)."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0.0
    own = sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return own / 1024 + sum(held(int(child)) for child in children)
