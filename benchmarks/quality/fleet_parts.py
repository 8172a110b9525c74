"""What does it cost to track a long video in parts?

Drawn videos with ground truth are tracked whole, and in parts that share a second and are joined again by
overlap.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from measuring import Table
from ookd.data.formats import save_ytvis
from ookd.data.video import VideoWriter
from ookd.evaluation.run import evaluate
from ookd.fleet.parts import cut, join
from ookd.fleet.process import FleetModel, FleetSettings, path_of, process
from ookd.fleet.result import FleetTracks, read_tracks
from ookd.worlds import World

FPS = 12


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="nano")
    parser.add_argument("--world", default="ytvis-like")
    parser.add_argument("--videos", type=int, default=10)
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--size", default="160x288")
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13], help="of the videos")
    parser.add_argument("--seconds", type=float, nargs="+", default=[5.0, 2.0], help="of a part")


def run(given: argparse.Namespace) -> None:
    height, width = map(int, given.size.split("x"))
    count = {"videos": given.videos, "frames": given.frames, "height": height, "width": width}
    model = FleetModel(FleetSettings(given.model, "measured"), "cpu")
    columns = {"videos of seed": "", "tracked": "", "parts a video": ".1f", "AP": ".1f", "HOTA": ".1f"}
    with Table(given, {**columns, "tracks": ""}) as table:
        for seed in given.seeds:
            world = World(given.world, split="test", seed=seed, **count)
            with tempfile.TemporaryDirectory() as folder:
                for row in tracked(world, model, [None, *given.seconds], Path(folder)):
                    table.add(seed, *row)


def tracked(
    world: World, model: FleetModel, lengths: list[float | None], folder: Path
) -> Iterator[tuple[str, float, float, float, int]]:
    """For whole videos (None) and each length of parts: how, parts of a video, AP, HOTA and tracks."""
    truth = folder / "truth.json"
    save_ytvis(world.dataset(), truth)
    videos = [film(world, number, folder) for number in range(len(world))]
    for seconds in lengths:
        found, parts = [], 0
        for video in videos:
            tasks = cut(video, seconds or 1e9)
            parts += len(tasks)
            done = {task: process(video, model, folder, task.part) for task in tasks}
            whole = done[tasks[0]]
            if len(tasks) > 1:
                whole = join(video, tasks, done, model.settings, folder)
            found.append(read_tracks(path_of(folder, whole.key)))
        report = evaluate(truth, listed(found, folder / "found.json"))
        how = "whole" if seconds is None else f"in parts of {seconds:g} s"
        tracks = sum(len(one.tracks) for one in found)
        yield how, parts / len(videos), 100 * report.ap, 100 * report.tracking.hota, tracks


def film(world: World, number: int, folder: Path) -> str:
    path = folder / f"{number}.mp4"
    with VideoWriter(path, FPS) as writer:
        for frame in range(world.video_length(number)):
            writer.write(world.clip(number, [frame]).images[0])
    return str(path)


def listed(found: list[FleetTracks], path: Path) -> Path:
    """The benchmark's list of results."""
    entries = []
    for number, video in enumerate(found, 1):
        for track in video.tracks:
            masks: list[dict[str, object] | None] = [None] * video.frames
            for frame, counts in zip(track.frames, track.masks, strict=True):
                masks[frame] = {"size": [video.height, video.width], "counts": counts}
            entry = {"video_id": number, "category_id": track.label + 1, "score": track.score}
            entries.append({**entry, "segmentations": masks})
    path.write_text(json.dumps(entries))
    return path
