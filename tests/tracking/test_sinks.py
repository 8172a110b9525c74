"""What tracking writes: the contents of each format, and what remains when it is cut short."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco

from ookd.data.video import open_source
from ookd.errors import UserError
from ookd.structures import FrameResult
from ookd.tracking.sinks import SINKS, Sinks, sink_named
from ookd.tracking.sinks.sink import Sink

HEIGHT, WIDTH = 48, 64
NAMES = ("cat, small", "dog")
SOURCE = SimpleNamespace(name="yard.mp4", fps=20.0, height=HEIGHT, width=WIDTH)


def result(index: int) -> FrameResult:
    """Object 0, a cat, in all frames; object 7 in odd ones, a dog but in frame 1; they overlap."""
    boxes = {0: [4, 6, 24, 26], 7: [14, 16, 40, 36]}
    there = [0, 7] if index % 2 else [0]
    masks = np.zeros((len(there), HEIGHT, WIDTH), bool)
    for mask, id in zip(masks, there, strict=True):
        x1, y1, x2, y2 = boxes[id]
        mask[y1:y2, x1:x2] = True
    return FrameResult(
        index,
        np.array(there),
        np.array([0, 0 if index == 1 else 1][: len(there)]),
        np.array([0.5, 0.75][: len(there)], np.float32),
        np.array([boxes[id] for id in there], np.float32),
        masks,
        NAMES,
        np.full((HEIGHT, WIDTH, 3), index % 200, np.uint8),
        index / 20,
    )


def write(folder: Path, kinds: list[str], indices: range = range(6)) -> None:
    with Sinks(folder, kinds, SOURCE) as sinks:
        for index in indices:
            sinks.write(result(index))


@dataclass
class Counts(Sink):
    """How many objects each frame has."""

    name = "counts"
    file = "counts.txt"

    separator: str = " "

    def __post_init__(self) -> None:
        self.counts: list[str] = []

    def write(self, result: FrameResult) -> None:
        self.counts.append(str(len(result)))

    def close(self) -> None:
        self.path.write_text(self.separator.join(self.counts))


def test_a_new_sink_is_a_class_and_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SINKS, "counts", f"{__name__}:Counts")
    with Sinks(tmp_path, ["mot", "counts"], SOURCE, separator="+", trails=True) as sinks:
        for index in range(4):
            sinks.write(result(index))
    assert sinks.files == ["mot.txt", "counts.txt"]
    assert (tmp_path / "counts.txt").read_text() == "1+2+1+2"


def test_sinks_are_listed_under_their_names() -> None:
    assert [sink_named(name).name for name in SINKS] == list(SINKS)


def test_trails_are_an_option_of_the_video_only(tmp_path: Path) -> None:
    videos = []
    for trails in (False, True):
        folder = tmp_path / str(trails)
        folder.mkdir()
        with Sinks(folder, ["mp4", "csv"], SOURCE, trails=trails) as sinks:
            for index in range(6):
                moved = result(index)
                moved.boxes_xyxy = moved.boxes_xyxy + np.float32(3 * index)
                sinks.write(moved)
        with open_source(folder / "annotated.mp4") as source:
            videos.append([frame.image for frame in source.frames()][-1].astype(int))
    assert np.abs(videos[0] - videos[1]).max() > 50


def test_unsure_objects_are_in_the_tables_and_not_in_the_picture(tmp_path: Path) -> None:
    for folder, score in {"all": 0.0, "sure": 0.6, "none": 0.8}.items():
        (tmp_path / folder).mkdir()
        with Sinks(tmp_path / folder, ["mp4", "json"], SOURCE, score=score) as sinks:
            for index in (1, 3, 5):
                sinks.write(result(index))
    tables = [(tmp_path / folder / "frames.json").read_bytes() for folder in ("all", "sure", "none")]
    assert tables[0] == tables[1] == tables[2]

    def tinted(folder: str, row: int, column: int) -> bool:
        with open_source(tmp_path / folder / "annotated.mp4") as source:
            pixel = next(iter(source))[row, column].astype(int)
        return bool(np.ptp(pixel) > 20)

    assert [tinted(folder, 33, 38) for folder in ("all", "sure", "none")] == [True, True, False]  # object 7
    assert [tinted(folder, 24, 8) for folder in ("all", "sure", "none")] == [True, False, False]  # object 0


def test_frames_json(tmp_path: Path) -> None:
    write(tmp_path, ["json"])
    content = json.loads((tmp_path / "frames.json").read_text())
    frames = content.pop("frames")
    assert content == {
        "source": "yard.mp4",
        "fps": 20.0,
        "width": WIDTH,
        "height": HEIGHT,
        "classes": list(NAMES),
    }
    assert [frame["frame"] for frame in frames] == list(range(6))
    assert frames[3] == {
        "frame": 3,
        "seconds": 0.15,
        "objects": [
            {"id": 0, "label": 0, "class": "cat, small", "score": 0.5, "box_xyxy": [4.0, 6.0, 24.0, 26.0]},
            {"id": 7, "label": 1, "class": "dog", "score": 0.75, "box_xyxy": [14.0, 16.0, 40.0, 36.0]},
        ],
    }


def test_boxes_csv(tmp_path: Path) -> None:
    write(tmp_path, ["csv"])
    with (tmp_path / "boxes.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 6 + 3
    assert list(table[2].items()) == [
        ("frame", "1"),
        ("seconds", "0.0500"),
        ("id", "7"),
        ("class", "cat, small"),
        ("score", "0.7500"),
        ("x1", "14.00"),
        ("y1", "16.00"),
        ("x2", "40.00"),
        ("y2", "36.00"),
    ]


def test_mot_counts_from_one(tmp_path: Path) -> None:
    write(tmp_path, ["mot"])
    lines = (tmp_path / "mot.txt").read_text().splitlines()
    assert len(lines) == 9
    assert lines[2] == "2,8,15.00,17.00,26.00,20.00,0.7500,-1,-1,-1"


def test_mask_images(tmp_path: Path) -> None:
    write(tmp_path, ["png"])
    assert sorted(os.listdir(tmp_path / "masks")) == [f"{i:06d}.png" for i in range(6)]
    picture = cv2.imread(str(tmp_path / "masks" / "000003.png"), cv2.IMREAD_UNCHANGED)
    expected = np.zeros((HEIGHT, WIDTH), np.uint16)
    expected[6:26, 4:24] = 0 + 1
    expected[16:36, 14:40] = 7 + 1  # the better score is on top
    assert picture.dtype == np.uint16
    np.testing.assert_array_equal(picture, expected)


def test_mask_images_of_more_identities_than_16_bits_hold(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A stream that runs for weeks goes on."""
    for identity, value in {65534: 65535, 65535: 1, 131071: 2}.items():
        last = result(0)
        last.ids = np.array([identity])
        with Sinks(tmp_path, ["png"], SOURCE) as sinks:
            sinks.write(last)
            sinks.write(last)
        assert cv2.imread(str(tmp_path / "masks" / "000000.png"), cv2.IMREAD_UNCHANGED).max() == value
        assert len(caplog.records) == (identity >= 65535)  # told once
        caplog.clear()


def test_masks_of_an_earlier_run_do_not_stay(tmp_path: Path) -> None:
    write(tmp_path, ["png"], range(9))
    (tmp_path / "masks" / "mine.png").write_text("keep")
    write(tmp_path, ["png"], range(2))
    assert sorted(os.listdir(tmp_path / "masks")) == ["000000.png", "000001.png", "mine.png"]


def test_tracks_as_benchmarks_list_them(tmp_path: Path) -> None:
    write(tmp_path, ["rle"])
    assert os.listdir(tmp_path) == ["tracks.json"]
    cat, dog = json.loads((tmp_path / "tracks.json").read_text())
    assert (cat["track_id"], cat["category_id"], cat["category"], cat["score"]) == (0, 1, "cat, small", 0.5)
    assert (dog["track_id"], dog["category_id"], dog["category"], dog["score"]) == (7, 2, "dog", 0.75)
    assert cat["video_id"] == dog["video_id"] == 1
    for track, id in ((cat, 0), (dog, 7)):
        assert len(track["segmentations"]) == 6
        for index, mask in enumerate(track["segmentations"]):
            there = result(index)
            if id not in there.ids:
                assert mask is None
            else:
                expected = there.masks[there.ids.tolist().index(id)]
                np.testing.assert_array_equal(coco.decode(mask), expected)


def test_entries_of_a_track_are_frames_of_the_source(tmp_path: Path) -> None:
    write(tmp_path, ["rle"], range(3, 12, 4))  # as with --start 3 --every 4: frames 3, 7, 11
    for track in json.loads((tmp_path / "tracks.json").read_text()):
        seen = [index for index, mask in enumerate(track["segmentations"]) if mask is not None]
        assert seen == [3, 7, 11]
        assert len(track["segmentations"]) == 12


def test_nothing_seen_is_an_empty_list(tmp_path: Path) -> None:
    nothing = result(0)
    for name in ("ids", "labels", "scores", "boxes_xyxy", "masks"):
        setattr(nothing, name, getattr(nothing, name)[:0])
    with Sinks(tmp_path, list(SINKS), SOURCE) as sinks:
        sinks.write(nothing)
    assert json.loads((tmp_path / "tracks.json").read_text()) == []
    assert json.loads((tmp_path / "frames.json").read_text())["frames"][0]["objects"] == []
    assert not cv2.imread(str(tmp_path / "masks" / "000000.png"), cv2.IMREAD_UNCHANGED).any()


def test_annotated_video_starts_at_zero_and_keeps_its_pace(tmp_path: Path) -> None:
    write(tmp_path, ["mp4"], range(10, 40, 3))
    with open_source(tmp_path / "annotated.mp4") as source:
        frames = list(source.frames())
    assert [frame.seconds for frame in frames] == pytest.approx([i * 3 / 20 for i in range(10)], abs=1e-4)
    for frame, index in zip(frames, range(10, 40, 3), strict=True):
        np.testing.assert_allclose(frame.image[40:, 50:].astype(int), index, atol=4)  # nothing drawn there


def test_an_interrupt_leaves_whole_files(tmp_path: Path) -> None:
    def interrupted() -> None:
        with Sinks(tmp_path, list(SINKS), SOURCE) as sinks:
            for index in range(4):
                sinks.write(result(index))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert sorted(os.listdir(tmp_path)) == sorted(sink_named(name).file for name in SINKS)
    assert len(json.loads((tmp_path / "frames.json").read_text())["frames"]) == 4
    assert {len(t["segmentations"]) for t in json.loads((tmp_path / "tracks.json").read_text())} == {4}
    assert (tmp_path / "mot.txt").read_text().count("\n") == 6
    assert len(os.listdir(tmp_path / "masks")) == 4
    with open_source(tmp_path / "annotated.mp4") as source:
        assert sum(1 for _ in source) == 4


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("kind", ["json", "csv", "mot", "png", "rle"])
def test_a_full_disk(small_disk: Path, kind: str) -> None:
    with pytest.raises(UserError) as caught:
        write(small_disk, [kind], range(100_000))
    message = str(caught.value)
    assert "\n" not in message
    assert "cannot be written: " in message
    assert "No space left" in message or "disk is full" in message
    if kind == "png":  # what is there is whole
        images = sorted((small_disk / "masks").glob("*.png"))
        assert cv2.imread(str(images[-1]), cv2.IMREAD_UNCHANGED).shape == (HEIGHT, WIDTH)
    else:
        assert not (small_disk / sink_named(kind).file).exists()


@pytest.mark.parametrize("kind", SINKS)
def test_a_disk_that_is_full_from_the_start(small_disk: Path, kind: str) -> None:
    with (small_disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(1000))
    with pytest.raises(UserError, match=r"cannot be written: .*(No space left|full|I/O)"):
        write(small_disk, [kind], range(100))
    assert not (small_disk / sink_named(kind).file).is_file()


def test_one_failing_output_does_not_spoil_the_others(tmp_path: Path, small_disk: Path) -> None:
    (tmp_path / "masks").symlink_to(small_disk / "masks")
    (small_disk / "masks").mkdir()
    with pytest.raises(UserError, match=r"masks/\d+\.png: cannot be written: No space left"):
        write(tmp_path, ["json", "png", "mot"], range(100_000))
    frames = json.loads((tmp_path / "frames.json").read_text())["frames"]
    assert len(frames) == len(os.listdir(small_disk / "masks")) + 1 - any(
        name.endswith(".part") for name in os.listdir(small_disk / "masks")
    )
    assert (tmp_path / "mot.txt").exists()
