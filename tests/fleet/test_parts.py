"""A video that is tracked in parts: its tracks are joined where the parts overlap."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="the extra fleet is not installed")

from fleet.filming import SETTINGS
from ookd.data import rle
from ookd.data.video import VideoWriter
from ookd.fleet.parts import cut, join
from ookd.fleet.pool import FleetTask
from ookd.fleet.process import Processed, path_of
from ookd.fleet.result import FleetTrack, FleetTracks, read_tracks, write_tracks

FRAMES, SIZE, FPS = 30, (40, 60), 5


def square(number: int, frame: int) -> tuple[list[float], str]:
    """The box and mask of an object that moves to the right in a lane of its own."""
    mask = np.zeros(SIZE, bool)
    top, left = 10 * number, frame + 5 * number
    mask[top : top + 8, left : left + 8] = True
    return [left, top, left + 8, top + 8], rle.encode(mask)["counts"]


def tracked(ids: dict[int, int], start: int, stop: int, leave: int = FRAMES) -> FleetTracks:
    """What a tracker says that numbers the objects so; object 0 leaves at a frame."""
    tracks = []
    for id, number in sorted(ids.items()):
        frames = [frame for frame in range(start, stop) if number or frame < leave]
        seen = [square(number, frame) for frame in frames]
        boxes, masks = [box for box, _ in seen], [mask for _, mask in seen]
        tracks.append(
            FleetTrack(id, number, f"class {number}", 0.5, frames, [0.5] * len(frames), boxes, masks)
        )
    return FleetTracks(stop - start, FPS, *SIZE, tracks)


@pytest.fixture
def video(tmp_path: Path) -> str:
    path = tmp_path / "long.mp4"
    with VideoWriter(path, FPS) as writer:
        for frame in range(FRAMES):
            writer.write(np.full((*SIZE, 3), 8 * frame, np.uint8))
    return str(path)


def joined(video: str, parts: list[FleetTracks], tmp_path: Path) -> FleetTracks:
    tasks = cut(video, 2)
    done = {}
    for task, part in zip(tasks, parts, strict=True):
        key = SETTINGS.key(video, task.part)
        write_tracks(path_of(tmp_path, key), part)
        done[task] = Processed(key, part.frames, kept=False)
    return read_tracks(path_of(tmp_path, join(video, tasks, done, SETTINGS, tmp_path).key))


def test_parts_cover_the_video_and_share_a_second(video: str) -> None:
    parts = [task.part for task in cut(video, 2)]
    assert parts == [(0, 15), (10, 25), (20, 30)]
    assert [task.part for task in cut(video, 2, every=4)] == [(0, 12), (8, 20), (16, 28), (24, 30)]
    assert cut(video, 100) == [FleetTask(video)]
    assert cut("https://example.org/a.mp4", 2) == [FleetTask("https://example.org/a.mp4")]


def test_joined_parts_are_the_whole(video: str, tmp_path: Path) -> None:
    """Whatever numbers the parts give to the objects."""
    parts = [
        tracked({0: 0, 1: 1, 2: 2}, 0, 15),
        tracked({0: 2, 1: 0, 5: 1}, 10, 25),
        tracked({3: 1, 4: 2, 9: 0}, 20, 30),
    ]
    assert joined(video, parts, tmp_path) == tracked({0: 0, 1: 1, 2: 2}, 0, FRAMES)


def test_who_is_not_seen_where_parts_overlap_begins_anew(video: str, tmp_path: Path) -> None:
    parts = [
        tracked({0: 0, 1: 1}, 0, 15, leave=8),
        tracked({0: 1, 1: 2}, 10, 25),
        tracked({0: 1, 1: 2}, 20, 30),
    ]
    found = {
        track.id: (track.label, track.frames[0], track.frames[-1])
        for track in joined(video, parts, tmp_path).tracks
    }
    assert found == {0: (0, 0, 7), 1: (1, 0, 29), 2: (2, 15, 29)}
