"""The published data mappers, bit for bit: the same frames and transforms give the same training samples.

Two habits of a published sample are not ours, and this test looks through them: its instances come in the
order of a Python set of annotation ids, and a crowd keeps an empty row.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import GOLDEN, golden_cases
from ookd.clips.loader import boxes_of
from ookd.clips.sources import DatasetClips
from ookd.clips.transforms import RandomShortSide
from ookd.clips.warps import Crop, Flip, Resize, Size, Warp
from ookd.structures import Category, Clip, Dataset, Track, Video

FOLDER = GOLDEN / "mapper"
CASES = [c for path in golden_cases("mapper/samples.json") for c in json.loads(path.read_text())]
TRAIN = [case for case in CASES if case["mode"] == "train"]
TEST = [case for case in CASES if case["mode"] == "test"]
PAIRS = [case for case in CASES if case["mode"] == "coco_pair"]


def number(case: dict[str, Any]) -> str:
    return str(case["sample"])


@pytest.fixture(scope="module")
def expected(golden: Path) -> dict[str, np.ndarray]:
    with np.load(FOLDER / "expected.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def source(golden: Path) -> DatasetClips:
    content = json.loads((FOLDER / "ann.json").read_text())
    videos = {v["id"]: Video(v["id"], v["width"], v["height"], v["file_names"]) for v in content["videos"]}
    for a in content["annotations"]:
        videos[a["video_id"]].tracks.append(
            Track(a["id"], a["category_id"], a["segmentations"], a["bboxes"], a["areas"], bool(a["iscrowd"]))
        )
    categories = [Category(c["id"], c["name"]) for c in content["categories"]]
    return DatasetClips(Dataset(categories, list(videos.values()), FOLDER / "img"))


def recorded(case: dict[str, Any]) -> list[list[Warp]]:
    make = {
        "ResizeTransform": lambda r: [Resize(r["new_h"], r["new_w"])],
        "CropTransform": lambda r: [Crop(r["x0"], r["y0"], r["w"], r["h"])],
        "HFlipTransform": lambda r: [Flip()],
        "NoOpTransform": lambda r: [],
    }
    return [[warp for r in records for warp in make[r["type"]](r)] for records in case["transforms"]]


def clip_of(case: dict[str, Any], source: DatasetClips) -> tuple[Clip, Video]:
    i = case["video_id"] - 1
    video = source.dataset.videos[i]
    frames = [video.file_names.index(name) for name in case["file_names"]]
    return source.clip(i, frames, recorded(case)), video


def unpacked(expected: dict[str, np.ndarray], frame: str) -> np.ndarray:
    width = expected[f"{frame}.image"].shape[2]
    return np.unpackbits(expected[f"{frame}.masks"], axis=-1, count=width).astype(bool)


def relative(xyxy: np.ndarray, size: Size) -> np.ndarray:
    x0, y0, x1, y1 = xyxy.T
    scale = np.array([size[1], size[0], size[1], size[0]], np.float32)
    return np.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], axis=1) / scale


@pytest.mark.parametrize("case", TRAIN, ids=number)
def test_video_pair(case: dict[str, Any], source: DatasetClips, expected: dict[str, np.ndarray]) -> None:
    clip, video = clip_of(case, source)
    rows = {int(track_id): n for n, track_id in enumerate(clip.ids)}
    slots: set[int] = set()
    for frame in clip.frames:
        slots.update(track.id for track in video.tracks if track.segmentations[frame] is not None)
    for t, image in enumerate(clip.images):
        frame = f"s{case['sample']}.f{t}"
        np.testing.assert_array_equal(image.transpose(2, 0, 1), expected[f"{frame}.image"])
        masks, boxes = unpacked(expected, frame), relative(expected[f"{frame}.boxes"], image.shape[:2])
        for slot, track_id in enumerate(slots):
            if track_id not in rows:  # a crowd
                assert expected[f"{frame}.ids"][slot] == -1
                continue
            n = rows[track_id]
            seen = clip.masks[t][n].any()
            np.testing.assert_array_equal(clip.masks[t][n], masks[slot])
            assert expected[f"{frame}.ids"][slot] == (track_id if seen else -1)
            if seen:
                np.testing.assert_array_equal(boxes_of(clip.masks[t])[n], boxes[slot])
                assert clip.labels[n] == expected[f"{frame}.classes"][slot]


@pytest.mark.parametrize("case", TEST, ids=number)
def test_video_for_inference(
    case: dict[str, Any], source: DatasetClips, expected: dict[str, np.ndarray]
) -> None:
    clip, video = clip_of(case, source)
    for t, image in enumerate(clip.images):
        np.testing.assert_array_equal(image.transpose(2, 0, 1), expected[f"s{case['sample']}.f{t}.image"])
    drawn = RandomShortSide((56,), 75).draw([(video.height, video.width)], np.random.default_rng(0))
    assert drawn == [recorded(case)[0]]


@pytest.mark.parametrize("case", PAIRS, ids=number)
def test_image_pair(case: dict[str, Any], source: DatasetClips, expected: dict[str, np.ndarray]) -> None:
    clip, video = clip_of(case, source)
    tracks = [track for track in video.tracks if track.id in clip.ids]
    for t, image in enumerate(clip.images):
        frame = f"s{case['sample']}.f{t}"
        np.testing.assert_array_equal(image.transpose(2, 0, 1), expected[f"{frame}.image"])
        np.testing.assert_array_equal(clip.masks[t], unpacked(expected, frame))
        np.testing.assert_array_equal(clip.labels, expected[f"{frame}.classes"])
        boxes = [warped_box(track.boxes_xywh[clip.frames[t]], recorded(case)[t], video) for track in tracks]
        np.testing.assert_array_equal(np.array(boxes, np.float32), expected[f"{frame}.boxes"])
        for n, (x0, y0, x1, y1) in enumerate(boxes):
            seen = clip.masks[t][n].any() and x0 < x1 and y0 < y1
            assert expected[f"{frame}.ids"][n] == (n + 1 if seen else -1)


def warped_box(xywh: list[float] | None, warps: list[Warp], video: Video) -> list[float]:
    """The corners of an annotated box after the warps, within the frame: what image pairs are trained on."""
    assert xywh is not None
    x, y, w, h = xywh
    points, size = np.array([[x, y], [x + w, y + h]]), (video.height, video.width)
    for warp in warps:
        points, size = warp.points(points, size), warp.size(size)
    points = points.clip(0, [size[1], size[0]])
    return [*points.min(axis=0), *points.max(axis=0)]
