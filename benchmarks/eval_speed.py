"""How long `ookd eval` takes as a whole process, and how much memory.

    python benchmarks/eval_speed.py --videos 420 --repeat 5
    python benchmarks/eval_speed.py --videos 10000 --repeat 1

The set has 360x640 videos of 30 frames with five objects of 40 classes and twenty predictions each: ellipses
with wobbly edges, drawn column by column. Up to 420 videos are drawn; more are copies of them with new ids.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from pycocotools import mask as coco

H, W, FRAMES, OBJECTS, PREDICTIONS, CLASSES, DRAWN = 360, 640, 30, 5, 20, 40, 420


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


def draw(index: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Annotations and predictions of one video."""
    rng = np.random.default_rng(index)
    annotations, results = [], []
    for place in range(PREDICTIONS):
        rank = place // OBJECTS  # 0: a good prediction of the object, then worse and worse ones
        if rank == 0:
            x, y, rx, ry = rng.uniform([80, 60, 30, 25], [560, 300, 110, 90])
            vx, vy = rng.uniform([-3, -2], [3, 2])
            category = int(rng.integers(CLASSES)) + 1
            masks = [wobbly(rng, x + vx * t, y + vy * t, rx, ry, 0.3 * t) for t in range(FRAMES)]
            areas = [None if mask is None else int(coco.area(mask)) for mask in masks]
            annotation = {"category_id": category, "iscrowd": 0, "segmentations": masks, "areas": areas}
            annotations.append(annotation | {"path": (x, y, rx, ry, vx, vy)})
        target = annotations[place % OBJECTS]
        dx, dy, drx, dry = rng.normal(0, [2, 2, 3, 3]) * (1 + 3 * rank)
        x, y, rx, ry, vx, vy = target["path"]
        rx, ry = max(8, rx + drx), max(8, ry + dry)
        right = rng.random() < 0.8 - 0.2 * rank
        results.append(
            {
                "category_id": target["category_id"] if right else int(rng.integers(CLASSES)) + 1,
                "score": float(rng.uniform(0.05, 1) * (1 - 0.2 * rank)),
                "segmentations": [
                    wobbly(rng, x + dx + vx * t, y + dy + vy * t, rx, ry, 0.3 * t + 0.4)
                    for t in range(FRAMES)
                ],
            }
        )
    for annotation in annotations:
        del annotation["path"]
    return annotations, results


def numbered(videos: int) -> Iterator[tuple[int, list[dict[str, Any]], list[dict[str, Any]]]]:
    drawn = [draw(index) for index in range(min(videos, DRAWN))]
    for index in range(videos):
        yield index + 1, *drawn[index % len(drawn)]


def write_set(folder: Path, videos: int) -> None:
    listed = [
        {
            "id": v + 1,
            "height": H,
            "width": W,
            "length": FRAMES,
            "file_names": [f"{v:05d}/{t}.jpg" for t in range(FRAMES)],
        }
        for v in range(videos)
    ]
    classes = [{"id": k + 1, "name": f"class{k + 1}"} for k in range(CLASSES)]
    with (folder / "gt.json").open("wb") as gt, (folder / "pred.json").open("wb") as pred:
        gt.write(b'{"categories":' + orjson.dumps(classes) + b',"videos":' + orjson.dumps(listed))
        gt.write(b',"annotations":')
        opening = b"["
        count = 0
        for video, annotations, results in numbered(videos):
            for annotation in annotations:
                count += 1
                gt.write(opening if count == 1 else b",")
                gt.write(orjson.dumps({"id": count, "video_id": video} | annotation))
            for result in results:
                pred.write(opening + orjson.dumps({"video_id": video} | result))
                opening = b","
        gt.write(b"]}")
        pred.write(b"]")


def run(folder: Path, watch_memory: bool) -> tuple[float, float]:
    """Seconds, and the most megabytes that all its processes together held (0 if not watched)."""
    command = [sys.executable, "-m", "ookd", "eval", "--gt", str(folder / "gt.json")]
    started = time.perf_counter()
    with subprocess.Popen([*command, "--pred", str(folder / "pred.json")], stdout=subprocess.PIPE) as process:
        most = 0.0
        while watch_memory and process.poll() is None:
            most = max(most, held(process.pid))
            time.sleep(0.05)
        process.communicate()
    if process.returncode:
        raise SystemExit(process.returncode)
    return time.perf_counter() - started, most


def held(pid: int) -> float:
    """Megabytes of a process and those it started; what they share is counted once (Linux)."""
    kilobytes = 0
    for one in [pid, *children(pid)]:
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        kilobytes += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kilobytes / 1024


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=int, default=420)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="keep the set here and use it again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (arguments.folder or Path(scratch)) / str(arguments.videos)
        if not (folder / "pred.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_set(folder, arguments.videos)
        size = sum((folder / name).stat().st_size for name in ("gt.json", "pred.json")) / 2**20
        seconds = sorted(run(folder, watch_memory=False)[0] for _ in range(arguments.repeat))
        _, memory = run(folder, watch_memory=True)
    print("| videos | JSON MB | seconds (best, median, worst) | peak MB, all processes | cores |")
    print("|---|---|---|---|---|")
    spread = ", ".join(f"{seconds[i]:.2f}" for i in (0, len(seconds) // 2, -1))
    print(f"| {arguments.videos} | {size:.0f} | {spread} | {memory:.0f} | {len(os.sched_getaffinity(0))} |")


if __name__ == "__main__":
    main()
